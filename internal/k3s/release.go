package k3s

import "strings"

// The files of a release that install it on a Pi.
const (
	BinaryFile = "k3s-arm64"
	ScriptFile = "install.sh"
)

// sumsFile lists the checksums of a release's files, but for that of the script.
const sumsFile = "sha256sum-arm64.txt"

// Origin is where releases of k3s come from: two URLs, of its releases and of its source.
type Origin struct {
	Releases, Source string
}

// GitHub is k3s's own.
func GitHub() Origin {
	return Origin{
		Releases: "https://github.com/k3s-io/k3s/releases/download",
		Source:   "https://raw.githubusercontent.com/k3s-io/k3s",
	}
}

// Binary is where k3s-arm64 of a release is.
func (o Origin) Binary(release string) string { return under(o.Releases, release, BinaryFile) }

// Script is where install.sh of a release is: it is no part of it, and comes from its tag.
func (o Origin) Script(release string) string { return under(o.Source, release, ScriptFile) }

// Sums is where a release lists the checksums of its files.
func (o Origin) Sums(release string) string { return under(o.Releases, release, sumsFile) }

func under(base, release, file string) string {
	return strings.TrimRight(base, "/") + "/" + strings.ReplaceAll(release, "+", "%2B") + "/" + file
}

// URLs are where the two files of a release come from: below the URL from, or, when that is
// empty, from GitHub. They are empty when from is a folder.
func URLs(from, release string) (binary, script string) {
	switch {
	case from == "":
		return GitHub().Binary(release), GitHub().Script(release)
	case strings.Contains(from, "://"):
		base := strings.TrimRight(from, "/") + "/"
		return base + BinaryFile, base + ScriptFile
	default:
		return "", ""
	}
}
