package config

import (
	"path"
	"slices"
	"strings"
	"unicode"
)

func (v *validator) images() {
	const key, name = "images", "kustomization.yaml"
	file := v.Images
	usual := setCommand(key, false, defaultOf(key))
	switch {
	case file == "":
		v.say(key, missing, "the images' tags come from that file", usual)
	case path.IsAbs(file), strings.Contains(file, `\`):
		v.add(key, file, "it must be a path relative to the project, with slashes", usual)
	case strings.ContainsFunc(file, unicode.IsControl):
		v.add(key, file, "no path has a control character in it", usual)
	case slices.Contains(strings.Split(file, "/"), ".."):
		v.add(key, file, "it may not leave the project", usual)
	case path.Base(file) != name && !shellPattern.MatchString(file):
		v.add(key, file, "it must be the path of a file named "+name, usual)
	case path.Base(file) != name:
		folder := file
		if path.Ext(file) != "" {
			folder = path.Dir(file)
		}
		v.add(key, file, "kustomize reads only a file named "+name, setCommand(key, false, path.Join(folder, name)))
	}
}
