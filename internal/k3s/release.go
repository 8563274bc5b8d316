package k3s

import "strings"

// The files of a release that install it on a Pi.
const (
	BinaryFile = "k3s-arm64"
	ScriptFile = "install.sh"
)

// URLs are where the two files of a release come from: below the URL from, or, when that is
// empty, k3s's own release and tag. They are empty when from is a folder.
func URLs(from, release string) (binary, script string) {
	switch {
	case from == "":
		tag := strings.ReplaceAll(release, "+", "%2B")
		return "https://github.com/k3s-io/k3s/releases/download/" + tag + "/" + BinaryFile,
			"https://raw.githubusercontent.com/k3s-io/k3s/" + tag + "/" + ScriptFile
	case strings.Contains(from, "://"):
		base := strings.TrimRight(from, "/") + "/"
		return base + BinaryFile, base + ScriptFile
	default:
		return "", ""
	}
}
