// Command try does what the README and the documents say, as a stranger would: it clones this
// repository, runs the commands of the pages in their order, and prints what became of each. What
// acts on real clusters is not run: trials.go names the tests where that is tried.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nullify005/manager-cluster-state/internal/report"
	"github.com/nullify005/manager-cluster-state/rehearsal"
)

func main() {
	root := flag.String("project", ".", "folder of the repository whose last commit is tried")
	only := flag.String("only", "", "try the section of this heading alone")
	skip := flag.String("skip", "^$", "leave out commands that match this")
	flag.Parse()
	os.Exit(run(*root, *only, *skip))
}

func run(root, only, skip string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := try(ctx, root, only, skip); err != nil {
		fmt.Fprintln(os.Stderr, "try: "+err.Error())
		return 1
	}
	return 0
}

var errFailed = errors.New("some commands failed")

func try(ctx context.Context, root, only, skip string) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return fmt.Errorf("finding the project: %w", err)
	}
	leftOut, err := regexp.Compile(skip)
	if err != nil {
		return fmt.Errorf("reading -skip: %w", err)
	}
	folder, err := os.MkdirTemp("", "mcs-try-")
	if err != nil {
		return fmt.Errorf("making a folder: %w", err)
	}
	s := &stranger{folder: folder, log: os.Stderr, skip: leftOut}
	if err := s.arrive(ctx, root); err != nil {
		return errors.Join(err, os.RemoveAll(folder))
	}
	all, err := readAll(s.clone())
	if err != nil {
		return errors.Join(err, os.RemoveAll(folder))
	}
	if only != "" && !slices.ContainsFunc(all, func(section section) bool { return section.heading == only }) {
		return errors.Join(fmt.Errorf("-only %q: no page has a section of that name", only), os.RemoveAll(folder))
	}
	for _, section := range all {
		if ctx.Err() == nil && (only == "" || section.heading == only) {
			s.follow(ctx, section)
		}
	}
	fmt.Fprint(os.Stdout, report.Table([]string{"page", "command", "result", "seconds"}, s.rows))
	s.leave()
	if s.failed {
		return fmt.Errorf("%w; the clone is in %s", errFailed, folder)
	}
	return errors.Join(ctx.Err(), os.RemoveAll(folder))
}

// stranger is somebody with a fresh machine: a clone, a home, and nothing else but the tools,
// which take too long to build again.
type stranger struct {
	folder string
	log    *os.File
	skip   *regexp.Regexp
	rows   [][]string
	done   []string // commands that were run
	// prepared are the headings whose stage was set.
	prepared []string
	failed   bool
}

func (s *stranger) clone() string { return filepath.Join(s.folder, "clone") }

func (s *stranger) arrive(ctx context.Context, root string) error {
	tools, err := filepath.EvalSymlinks(filepath.Join(root, ".tools"))
	if err != nil {
		return fmt.Errorf("finding the tools: %w; build them with make tools", err)
	}
	// What is pushed from the clone stays here.
	origin := filepath.Join(s.folder, "origin.git")
	for _, args := range [][]string{{"--bare", root, origin}, {origin, s.clone()}} {
		clone := exec.CommandContext(ctx, "git", append([]string{"clone", "-q"}, args...)...)
		if out, err := clone.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", clone, err, out)
		}
	}
	if err := link(tools, filepath.Join(s.clone(), ".tools")); err != nil {
		return fmt.Errorf("linking the tools: %w", err)
	}
	modules, err := exec.CommandContext(ctx, "go", "env", "GOMODCACHE", "GOCACHE", "GOPATH").Output()
	if err != nil {
		return fmt.Errorf("asking Go for its folders: %w", err)
	}
	caches := strings.Split(strings.TrimSpace(string(modules)), "\n")
	home := filepath.Join(s.folder, "home")
	environment := []string{
		"HOME=" + home,
		// Pulumi asks the system for the home of ~, not the environment.
		"PULUMI_HOME=" + filepath.Join(home, ".pulumi"), "PULUMI_BACKEND_URL=file://" + home,
		"PATH=" + filepath.Join(s.clone(), ".tools", "bin") + ":$PATH",
		"GOMODCACHE=" + caches[0], "GOCACHE=" + caches[1], "GOPATH=" + caches[2],
		"PULUMI_CONFIG_PASSPHRASE=trial", "PULUMI_SKIP_UPDATE_CHECK=true",
		"GIT_AUTHOR_NAME=Stranger", "GIT_AUTHOR_EMAIL=stranger@example.net",
		"GIT_COMMITTER_NAME=Stranger", "GIT_COMMITTER_EMAIL=stranger@example.net",
	}
	if err := os.Mkdir(home, 0o700); err != nil {
		return fmt.Errorf("making a home: %w", err)
	}
	return s.write("environment", "export "+strings.Join(environment, "\nexport ")+"\n")
}

// link has the clone's own folder of tools begin as another's is: what is built there stays there.
// The helper is not among them, since each tree has its own.
func link(from, to string) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && strings.HasPrefix(entry.Name(), ".build-") {
			return filepath.SkipDir
		}
		name, err := filepath.Rel(from, path)
		if err != nil || entry.Name() == "mcs" {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		return os.Symlink(path, filepath.Join(to, name))
	})
}

func (s *stranger) write(name, content string) error {
	if err := os.WriteFile(filepath.Join(s.folder, name), []byte(content), 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", name, err)
	}
	return nil
}

// follow runs the commands of a section. One that was run before is run again where it is in a block.
func (s *stranger) follow(ctx context.Context, section section) {
	stage := stages[section.heading]
	for i, block := range section.blocks {
		if err := s.write(strconv.Itoa(i+1), block); err != nil {
			s.record(section, "its blocks", err.Error(), 0)
			s.failed = true
			return
		}
	}
	if stage.before != "" && !slices.Contains(s.prepared, section.heading) {
		s.prepared = append(s.prepared, section.heading)
		s.run(ctx, section, trial{command: "what “" + section.heading + "” needs", as: stage.before}, "")
	}
	for _, command := range section.commands {
		trial, listed := find(command.text)
		switch {
		case slices.Contains(s.done, command.text) && !command.inBlock:
		case !listed:
			s.record(section, command.text, "not in trials.go", 0)
			s.failed = true
		case s.skip.MatchString(trial.as) && trial.why == "":
			s.record(section, command.text, "left out", 0)
		case trial.why != "":
			result := trial.why
			if len(trial.tests) > 0 {
				result += ": " + strings.Join(trial.tests, ", ")
			}
			s.record(section, command.text, result, 0)
		default:
			s.run(ctx, section, trial, stage.says[command.text])
		}
		s.done = append(s.done, command.text)
	}
}

func find(command string) (trial, bool) {
	i := slices.IndexFunc(trials, func(t trial) bool { return t.command == command })
	if i < 0 {
		return trial{}, false
	}
	return trials[i], true
}

// run types a command as the next line of one long shell session: what it exports stays.
func (s *stranger) run(ctx context.Context, section section, trial trial, says string) {
	fmt.Fprintln(s.log, "$ "+trial.as)
	cmd := exec.CommandContext(ctx, "bash", "-c", `. ../environment; set -e; export BLOCKS=$PWD/..
`+trial.as+`
export -p > ../environment`)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr = s.clone(), strings.NewReader(trial.answer+"\n"), &out, &out
	// As Ctrl-C would; a rehearsal then stops in good order.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin)
	result := "works"
	switch {
	case err != nil:
		result = "FAILS: " + err.Error()
	case !strings.Contains(out.String(), says):
		result = fmt.Sprintf("FAILS: it doesn't say %q", says)
	}
	if result != "works" {
		s.failed = true
		fmt.Fprintln(s.log, out.String())
	}
	s.record(section, trial.command, result, took)
}

func (s *stranger) record(section section, command, result string, took time.Duration) {
	seconds := ""
	if took > 0 {
		seconds = fmt.Sprintf("%.1f", took.Seconds())
	}
	s.rows = append(s.rows, []string{section.page, "`" + command + "`", result, seconds})
}

// leave takes down every rehearsal that was brought up, however the trial ended.
func (s *stranger) leave() {
	rehearsals, err := rehearsalsIn(filepath.Join(s.clone(), ".rehearsal"))
	if err != nil {
		s.failed = true
		fmt.Fprintf(s.log, "looking for rehearsals that are still there: %v\n", err)
	}
	for _, folder := range rehearsals {
		//nolint:noctx // also after Ctrl-C
		cmd := exec.Command(filepath.Join(s.clone(), ".tools", "bin", "mcs"), "rehearse", "down", "--stack", filepath.Base(folder), "--dir", folder)
		cmd.Dir = s.clone()
		if out, err := cmd.CombinedOutput(); err != nil {
			s.failed = true // its processes may run on, in a folder that had better stay
			fmt.Fprintf(s.log, "%s: %v: %s\n", cmd, err, out)
		}
	}
}

// rehearsalsIn finds the folders of rehearsals: those of make up, and those that make bench and make chaos have in
// folders of their own.
func rehearsalsIn(folder string) ([]string, error) {
	var found []string
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case entry.Name() == rehearsal.Mark:
			found = append(found, filepath.Dir(path))
			return fs.SkipDir
		}
		return nil
	})
	return found, err
}
