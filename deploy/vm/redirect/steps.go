package redirect

// Steps are the files and commands of a Plan, a line each in their order, as `plan` shows them. They are of the Plan alone: what is there
// already is not done again.
func Steps(p Plan) []string {
	owner := modeOf(p.Mode)
	if owner == nil && !p.Transparent {
		return nil
	}
	steps := []string{"ask CoreDNS at " + p.Server.String() + " for a name of the mesh, and change nothing unless it answers"}
	if owner != nil {
		steps = append(steps, owner.steps(p)...)
	}
	if p.Transparent {
		steps = append(steps, "send questions of every other program to CoreDNS by nftables")
	}
	return append(steps, "ask the machine for a name of the mesh, and undo all of this unless it answers")
}
