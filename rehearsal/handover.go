package rehearsal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/nullify005/manager-cluster-state/config"
	"github.com/nullify005/manager-cluster-state/handover"
)

// switched is the delivery that a rehearsal was switched to, kept in the folder: it stands in
// for the stack file's until the rehearsal is taken down.
type switched struct {
	Delivery config.Delivery `json:"delivery"`
	Handover bool            `json:"handover"`
}

func (f folder) switched() string { return f.join("switched.json") }

// switchedTo is nil where the delivery is the stack file's.
func (r *Rehearsal) switchedTo() (*switched, error) {
	data, err := os.ReadFile(r.folder.switched())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("reading which delivery the rehearsal was switched to: %w", err)
	}
	record := &switched{}
	if err := json.Unmarshal(data, record); err != nil {
		return nil, fmt.Errorf("reading which delivery the rehearsal was switched to: %w", err)
	}
	return record, nil
}

// Switch changes the delivery of the running stack, as package handover has it.
func (r *Rehearsal) Switch(ctx context.Context, to config.Delivery) error {
	if !r.folder.exists() {
		return ErrNothing
	}
	return r.locked(ctx, func() error {
		if err := r.ensureForge(ctx); err != nil {
			return err
		}
		if err := r.engine.prepare(ctx); err != nil {
			return err
		}
		// What a person would have rendered, sealed and pushed before.
		if err := r.pushManifests(ctx); err != nil {
			return err
		}
		return handover.Switch(ctx, rehearsed{r}, to, r.log)
	})
}

// rehearsed is a rehearsal as package handover sees a stack; its lock is held.
type rehearsed struct{ *Rehearsal }

func (r rehearsed) StackName() string { return r.stack }

func (r rehearsed) ProjectDir() string { return r.root }

func (r rehearsed) GitEnv() []string { return r.gitEnvironment() }

func (r rehearsed) Config(ctx context.Context) (*config.Config, error) { return r.secretConfig(ctx) }

func (r rehearsed) SetDelivery(ctx context.Context, delivery config.Delivery, handover bool) error {
	data, err := json.Marshal(switched{delivery, handover})
	if err == nil {
		err = writePrivate(r.folder.switched(), data)
	}
	if err != nil {
		return fmt.Errorf("recording which delivery the rehearsal is switched to: %w", err)
	}
	return r.engine.prepare(ctx)
}

func (r rehearsed) Pending(ctx context.Context) (int, error) {
	return r.pulumiStack().Pending(ctx)
}

func (r rehearsed) Update(ctx context.Context) error {
	return r.update(ctx, &stopwatch{start: time.Now()}, UpOptions{})
}

func (r rehearsed) Client(context.Context) (client.Client, error) { return r.Rehearsal.Client() }
