package redirect

import (
	"context"
	"errors"
)

// Recover undoes at boot what an earlier boot has left: a power cut, or a kill, gave nobody the time. What was applied in this boot
// stays.
func Recover(ctx context.Context, m Machine) (Outcome, error) {
	state, err := LoadState(m)
	var unusable *UnusableState
	if err != nil && !errors.As(err, &unusable) {
		return Outcome{}, err
	}
	if state != nil {
		boot, err := m.boot()
		if err != nil {
			return Outcome{}, err
		}
		if state.Boot == boot {
			return Outcome{}, nil
		}
	}
	return Revert(ctx, m)
}
