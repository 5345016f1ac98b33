package hostile

import (
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
	"github.com/meshvm/meshvm/syncer/registry"
)

// resources are entries as they travel.
func resources(entries []*registry.Entry) []*registryv1.Resource {
	made := make([]*registryv1.Resource, len(entries))
	for i, entry := range entries {
		made[i] = &registryv1.Resource{Key: entry.Key, Body: entry.Body}
	}
	return made
}
