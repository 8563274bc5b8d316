// Command called calls what the test's database takes for vulnerable.
package main

import (
	"archive/zip"
	"os"
)

func main() {
	if _, err := zip.OpenReader(os.Args[1]); err != nil {
		os.Exit(1)
	}
}
