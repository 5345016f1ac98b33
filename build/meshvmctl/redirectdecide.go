package main

import (
	"context"

	"github.com/meshvm/meshvm/deploy/vm/redirect"
)

// decideRedirect looks at the machine and makes a Plan of what it finds and of what is wanted.
func decideRedirect(ctx context.Context, machine redirect.Machine, wish redirect.Wish) (redirect.Plan, error) {
	facts, err := redirect.Detect(ctx, machine, wish.Server)
	if err != nil {
		return redirect.Plan{}, err
	}
	return redirect.Decide(facts, wish)
}
