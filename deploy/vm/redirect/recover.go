package redirect

import (
	"context"
	"errors"
	"fmt"
)

// Recover undoes at boot what an earlier boot has left: a power cut, or a kill, gave nobody the time. What was applied in this boot
// stays.
func Recover(ctx context.Context, m Machine) (Outcome, error) {
	state, err := LoadState(m)
	if _, unusable := errors.AsType[*UnusableState](err); err != nil && !unusable {
		return Outcome{}, fmt.Errorf("recover what an earlier boot has left: %w", err)
	}
	if state != nil {
		boot, err := m.boot()
		if err != nil {
			return Outcome{}, fmt.Errorf("recover what an earlier boot has left: %w", err)
		}
		if state.Boot == boot {
			return Outcome{}, nil
		}
	}
	// Without a State, or with one that nobody can read, the machine itself says what is left.
	return Revert(ctx, m)
}
