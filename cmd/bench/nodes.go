package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/nullify005/manager-cluster-state/internal/report"
	"github.com/nullify005/manager-cluster-state/rehearsal"
)

// nodeCounts are how many machines the development stack is brought up on.
func nodeCounts() []int { return []int{3, 30, 300} }

// nodes brings the development stack up on clusters of each size in turn.
func nodes(ctx context.Context, b *bench) (string, error) {
	counts := nodeCounts()
	ways := make([]way, len(counts))
	noOps := make([]figures, len(counts))
	for i, count := range counts {
		var r *rehearsal.Rehearsal
		ways[i] = way{
			name: strconv.Itoa(count),
			before: func(ctx context.Context) (err error) {
				if r, err = b.stack(map[string]any{"cluster.nodes": machines(count)}); err != nil {
					return err
				}
				return b.fresh(ctx, r, b.project)
			},
			run: func(ctx context.Context) error { return b.pulumi(ctx, r, r.OnStack(up()...)...) },
			after: func(ctx context.Context) error {
				start := time.Now()
				err := b.pulumi(ctx, r, r.OnStack(up("--expect-no-changes")...)...)
				noOps[i].values = append(noOps[i].values, time.Since(start))
				return err
			},
		}
	}
	ups, err := b.inTurn(ctx, ways...)
	if err != nil {
		return "", err
	}
	rows := make([][]string, len(counts))
	for i := range counts {
		rows[i] = []string{
			ups[i].name, seconds(report.Median(ups[i].values)), between(ups[i].values), spread(ups[i].to(&ups[0]), "%.2f"),
			seconds(report.Median(noOps[i].values)), between(noOps[i].values), strconv.Itoa(len(ups[i].values)),
		}
	}
	return report.Table([]string{"nodes", "`up`", "min – max", "to 3 nodes", "no-op `up`", "min – max", "runs"}, rows), nil
}

// machines are one server and agents, of the size of the development stack's own.
func machines(count int) []any {
	all := make([]any, count)
	for i := range all {
		role := "agent"
		if i == 0 {
			role = "server"
		}
		all[i] = map[string]any{
			"name": fmt.Sprintf("k3d-development-%s-%d", role, max(i-1, 0)), "role": role, "arch": "amd64", "cpu": 4, "memory": "4Gi", "reserved": "512Mi",
		}
	}
	return all
}
