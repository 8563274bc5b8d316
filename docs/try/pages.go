package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// section is what a page has between two headings.
type section struct {
	page, heading string
	// commands are those of its sh blocks, line by line, and those in backticks, in their order.
	commands []command
	// blocks are its other fenced blocks, in their order.
	blocks []string
}

type command struct {
	text    string
	inBlock bool
}

// pages are the README and the documents beside it, which are the ones with commands.
func pages(root string) ([]string, error) {
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		return nil, fmt.Errorf("listing the documents: %w", err)
	}
	slices.Sort(found)
	return append([]string{filepath.Join(root, "README.md")}, found...), nil
}

// readAll reads every page's sections, the README's first.
func readAll(root string) ([]section, error) {
	files, err := pages(root)
	if err != nil {
		return nil, err
	}
	var all []section
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("reading a page: %w", err)
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return nil, fmt.Errorf("naming a page: %w", err)
		}
		all = append(all, sections(filepath.ToSlash(name), string(content))...)
	}
	return all, nil
}

// sections takes a page apart. What is commented out is on no page.
func sections(page, markdown string) []section {
	markdown = regexp.MustCompile(`(?s)<!--.*?-->`).ReplaceAllString(markdown, "")
	heading := regexp.MustCompile(`^#+ (.+)$`)
	all := []section{{page: page}}
	var prose []string
	prosaic := func() {
		last := &all[len(all)-1]
		last.commands = append(last.commands, inBackticks(strings.Join(prose, "\n"))...)
		prose = nil
	}
	lines := strings.Split(markdown, "\n")
	for i := 0; i < len(lines); i++ {
		if found := heading.FindStringSubmatch(lines[i]); found != nil {
			prosaic()
			all = append(all, section{page: page, heading: found[1]})
			continue
		}
		language, fenced := strings.CutPrefix(lines[i], "```")
		if !fenced {
			prose = append(prose, lines[i])
			continue
		}
		prosaic()
		length := slices.Index(lines[i+1:], "```")
		if length < 0 {
			length = len(lines) - i - 1
		}
		block, last := lines[i+1:i+1+length], &all[len(all)-1]
		i += length + 1
		if language == "sh" {
			last.commands = append(last.commands, withoutRemarks(block)...)
			continue
		}
		last.blocks = append(last.blocks, strings.Join(block, "\n")+"\n")
	}
	prosaic()
	return all
}

func withoutRemarks(lines []string) []command {
	remark := regexp.MustCompile(`\s+# .*$`)
	var commands []command
	for _, line := range lines {
		if line = strings.TrimSpace(remark.ReplaceAllString(line, "")); line != "" {
			commands = append(commands, command{text: line, inBlock: true})
		}
	}
	return commands
}

// inBackticks finds the commands in prose: what begins with the name of a program that a person
// runs here, and goes on with an argument.
func inBackticks(prose string) []command {
	isCommand := regexp.MustCompile(`^(?:[A-Z_]+=\S+ )?(?:make|pulumi|go|git|kubectl|flux|kubeseal) [a-z./-]`)
	var commands []command
	for _, found := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(prose, -1) {
		if text := strings.Join(strings.Fields(found[1]), " "); isCommand.MatchString(text) {
			commands = append(commands, command{text: text})
		}
	}
	return commands
}
