package main

import (
	"context"
	"fmt"
	"maps"

	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// development is the stack that a fresh clone brings up.
const development = "development"

// stack is the development stack as a fresh clone has it: there are no sealing keys.
func (b *bench) stack(overrides map[string]any) (*rehearsal.Rehearsal, error) {
	all := map[string]any{"sealing.keys": []any{}}
	maps.Copy(all, overrides)
	return b.rehearsal(rehearsal.Options{Project: b.project, Stack: development, Overrides: all})
}

// bringUp begins each run with a new cluster, in which nothing is but what k3s brings. Neither side has Flux's
// controllers run: their Deployments become ready as all others do, and nothing in this delivery needs more.
func bringUp(ctx context.Context, b *bench) (string, error) {
	r, err := b.stack(nil)
	if err != nil {
		return "", err
	}
	var k *kubectl
	var e *empty
	begin := func(ctx context.Context) error { return b.fresh(ctx, r, b.project) }
	all, err := b.inTurn(
		ctx,
		way{name: "`pulumi up`", before: begin, run: func(ctx context.Context) error { return b.pulumi(ctx, r, r.OnStack(up()...)...) }},
		way{
			name: "`kubectl apply` and `wait`",
			before: func(ctx context.Context) error {
				if err := begin(ctx); err != nil {
					return err
				}
				k, err = b.newKubectl(r)
				return err
			},
			run: func(ctx context.Context) error { return k.up(ctx) },
		},
		way{
			name:   "`pulumi up`, its state written once, at the end",
			before: func(ctx context.Context) error { r.SaveOnce(true); return begin(ctx) },
			run:    func(ctx context.Context) error { return b.pulumi(ctx, r, r.OnStack(up()...)...) },
			after:  func(context.Context) error { r.SaveOnce(false); return nil },
		},
		way{
			name: "an empty program's `pulumi up`",
			before: func(ctx context.Context) error {
				e, err = b.newEmpty(ctx, r)
				return err
			},
			run: func(ctx context.Context) error { return e.run(ctx, up()...) },
		},
	)
	if err != nil {
		return "", err
	}
	return compared(all) + "\n" + verdict("no slower than kubectl", all[0].to(&all[1]), 1), nil
}

// there brings the development stack up, with an empty one beside it.
func (b *bench) there(ctx context.Context) (*rehearsal.Rehearsal, *empty, error) {
	r, err := b.stack(nil)
	if err != nil {
		return nil, nil, err
	}
	if err := b.fresh(ctx, r, b.project); err != nil {
		return nil, nil, err
	}
	if err := b.pulumi(ctx, r, r.OnStack(up()...)...); err != nil {
		return nil, nil, err
	}
	e, err := b.newEmpty(ctx, r)
	if err == nil {
		err = e.run(ctx, up()...)
	}
	return r, e, err
}

// noOp asks both sides to find that nothing is to be done, of the same objects in the same cluster.
func noOp(ctx context.Context, b *bench) (string, error) {
	r, e, err := b.there(ctx)
	if err != nil {
		return "", err
	}
	k, err := b.newKubectl(r)
	if err != nil {
		return "", err
	}
	// Its first call fills its cache, as Pulumi's first update filled the build cache.
	if err := k.diff(ctx); err != nil {
		return "", fmt.Errorf("kubectl sees a difference where there is none: %w", err)
	}
	all, err := b.inTurn(
		ctx,
		way{name: "`pulumi up`", run: func(ctx context.Context) error {
			return b.pulumi(ctx, r, r.OnStack(up("--expect-no-changes")...)...)
		}},
		way{name: "`kubectl diff`", run: k.diff},
		way{name: "an empty program's `pulumi up`", run: func(ctx context.Context) error { return e.run(ctx, up()...) }},
	)
	if err != nil {
		return "", err
	}
	return compared(all) + "\n" + verdict("no slower than `kubectl diff`", all[0].to(&all[1]), 1), nil
}

// preview compares with a program that makes nothing.
func preview(ctx context.Context, b *bench) (string, error) {
	r, e, err := b.there(ctx)
	if err != nil {
		return "", err
	}
	all, err := b.inTurn(
		ctx,
		way{name: "`pulumi preview`", run: func(ctx context.Context) error { return b.pulumi(ctx, r, r.OnStack(look()...)...) }},
		way{name: "an empty program's", run: func(ctx context.Context) error { return e.run(ctx, look()...) }},
		way{
			name:   "`pulumi preview`, with Pulumi's own log of it",
			before: func(context.Context) error { return r.KeepLog(true) },
			run:    func(ctx context.Context) error { return b.pulumi(ctx, r, r.OnStack(look()...)...) },
			after:  func(context.Context) error { return r.KeepLog(false) },
		},
	)
	if err != nil {
		return "", err
	}
	return compared(all) + "\n" + verdict("within 1.5 of the empty program", all[0].to(&all[1]), 1.5), nil
}
