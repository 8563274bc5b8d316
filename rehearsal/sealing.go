package rehearsal

import (
	"context"
	"time"

	"github.com/nullify005/manager-cluster-state/seal"
)

// RotateSealingKey adds a key pair, which seals from the next update on, as make
// rotate-sealing-key does with a real stack.
func (r *Rehearsal) RotateSealingKey(ctx context.Context) error {
	return r.locked(ctx, func() error {
		if err := r.engine.prepare(ctx); err != nil {
			return err
		}
		key, err := seal.NewSealingKey(time.Now())
		if err != nil {
			return err
		}
		return r.pulumiStack().AppendSealingKey(ctx, key)
	})
}
