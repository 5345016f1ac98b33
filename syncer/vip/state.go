package vip

import "strings"

// States are all that there are, those that are in order first.
func States() []State {
	return []State{Assigned, Pending, Quarantined, Conflicting, Diverging, Lacking}
}

// JoinStates is states as people write a list.
func JoinStates(states []State) string {
	texts := make([]string, len(states))
	for i, state := range states {
		texts[i] = string(state)
	}
	return strings.Join(texts, ", ")
}
