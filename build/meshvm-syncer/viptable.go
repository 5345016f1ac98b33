package main

import (
	"context"

	"github.com/meshvm/meshvm/syncer/vip"
	"github.com/meshvm/meshvm/syncer/vip/kubernetes"
)

// tableOf is what knows of all virtual IPs: who gives them in the cluster, else who reads them.
func tableOf(follow follower, allocator *kubernetes.Controller) func(context.Context) (vip.Table, error) {
	if allocator != nil {
		return allocator.Table
	}
	return func(context.Context) (vip.Table, error) { return follow.Table(), nil }
}
