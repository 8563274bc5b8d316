package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
)

//go:embed hostpatch.go
var hostPatchSource []byte

// keptProgram lets Pulumi's Go host keep the program that it builds: with PULUMI_GO_PROGRAMS set to a folder, it builds
// there, a file per project, and what is up to date isn't linked again. Newer hosts have the option buildTarget of
// Pulumi.yaml for it, which doesn't reach this one. Without the variable it does what it always did.
func keptProgram(folder, version string) error {
	const (
		old         = `flag.StringVar(&buildTarget, "buildTarget", "",`
		replacement = `flag.StringVar(&buildTarget, "buildTarget", keptProgram(),`
		function    = `
func keptProgram() string {
	folder := os.Getenv("PULUMI_GO_PROGRAMS")
	project, err := os.Getwd()
	if folder == "" || err != nil {
		return ""
	}
	return filepath.Join(folder, filepath.Base(project))
}
`
	)
	path := filepath.Join(folder, "go", "pulumi-language-go", "main.go")
	content, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("reading Pulumi's Go host: %w", err)
	}
	if bytes.Count(content, []byte(old)) != 1 {
		return fmt.Errorf("the Go host of Pulumi %s does not have %s once: look at what it does now, and change hostpatch.go", version, old)
	}
	content = append(bytes.Replace(content, []byte(old), []byte(replacement), 1), function...)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		return fmt.Errorf("writing Pulumi's Go host: %w", err)
	}
	return nil
}
