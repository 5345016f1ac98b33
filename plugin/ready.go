package meshvm

// Ready implements ready.Readiness: whether names of the mesh can be answered. The ready plugin knows
// plugins by name only, so the answer is the same for all server blocks: every mirror in use holds a
// registry, from its snapshot or from a syncer. It stays ready when the syncer is gone.
func (m *Meshvm) Ready() bool {
	for _, held := range process.all() {
		if !held.mirror.State().Loaded() {
			return false
		}
	}
	return true
}
