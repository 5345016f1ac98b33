package redirect

import "context"

// applyTransparent and revertTransparent are where the rules of nftables come in. Without them a Plan that wants any is refused.

func applyTransparent(context.Context, Machine, Plan) error {
	return &Impossible{"this program has no rules of nftables"}
}

func revertTransparent(context.Context, Machine) error { return nil }
