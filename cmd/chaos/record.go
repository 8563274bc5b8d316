package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"time"
)

// record is what a run has found so far with one stack, so that one that was cut short can be gone on with.
type record struct {
	path string

	Faults []string `json:"faults"`
	Points int      `json:"points"`
	Seed   uint64   `json:"seed"`
	Tries  []tried  `json:"tries"` // in the order in which they are made
}

// tried is a result as it is kept.
type tried struct {
	Fault    string        `json:"fault"`
	Steps    int           `json:"steps"`
	After    time.Duration `json:"after"`
	Failed   string        `json:"failed,omitempty"`
	Broken   []string      `json:"broken,omitempty"`
	Pending  []string      `json:"pending,omitempty"`
	Recovery time.Duration `json:"recovery"`
}

// openRecord begins a record, or with --resume takes up the one that is there.
func openRecord(o *options, stack string) (*record, error) {
	path := filepath.Join(o.folder, stack+"-tries.json")
	r := &record{path: path, Faults: o.faults, Points: o.points, Seed: o.seed}
	if !o.resume {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("removing the record of the run before: %w", err)
		}
		return r, nil
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil // that run didn't come to this stack
	}
	if err != nil {
		return nil, fmt.Errorf("reading the record of the run before: %w", err)
	}
	before := record{path: path}
	if err := json.Unmarshal(data, &before); err != nil {
		return nil, fmt.Errorf("reading %s: %w; without --resume everything is tried anew", path, err)
	}
	if !reflect.DeepEqual(before.Faults, r.Faults) || before.Points != r.Points || before.Seed != r.Seed {
		return nil, fmt.Errorf("--resume: the run before had --faults %v --points %d --seed %d: give the same, or leave --resume out",
			before.Faults, before.Points, before.Seed)
	}
	return &before, nil
}

// results are the tries that were made.
func (r *record) results(stack string) []*result {
	all := make([]*result, len(r.Tries))
	for i, t := range r.Tries {
		all[i] = &result{
			fault: t.Fault, stack: stack, at: point{steps: t.Steps, after: t.After},
			failed: t.Failed, broken: t.Broken, pending: t.Pending, recovery: t.Recovery,
		}
	}
	return all
}

// add keeps one more try; a run that is killed meanwhile loses that one at most.
func (r *record) add(found *result) error {
	r.Tries = append(r.Tries, tried{
		Fault: found.fault, Steps: found.at.steps, After: found.at.after,
		Failed: found.failed, Broken: found.broken, Pending: found.pending, Recovery: found.recovery,
	})
	data, err := json.MarshalIndent(r, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(r.path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(r.path+".new", data, 0o600)
	}
	if err == nil {
		err = os.Rename(r.path+".new", r.path)
	}
	if err != nil {
		return fmt.Errorf("keeping what was found: %w", err)
	}
	return nil
}
