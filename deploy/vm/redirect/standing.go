package redirect

import "time"

// Standing is how the redirect of a machine stands. Later versions add fields and change none.
type Standing struct {
	// InForce: a Plan was applied, nothing of it is missing, it is not withdrawn, and nobody fights over it.
	InForce bool `json:"in_force"`
	// Applied: there is a State. Else nothing is redirected, and the fields below are empty.
	Applied bool `json:"applied"`
	// Since is when it was applied.
	Since time.Time `json:"since,omitzero"`
	Plan  *Plan     `json:"plan,omitempty"`
	// Missing is what of the Plan is not in force, a sentence each.
	Missing []string `json:"missing,omitempty"`
	// Withdrawn and Fight are as in the State.
	Withdrawn string `json:"withdrawn,omitempty"`
	Fight     string `json:"fight,omitempty"`
}

// Stand reads how the redirect stands. It changes nothing, and needs no rights but to read what all may read. The error is an
// *UnusableState where nobody can tell.
func Stand(m Machine) (Standing, error) {
	s, err := LoadState(m)
	if err != nil || s == nil {
		return Standing{}, err
	}
	standing := Standing{Applied: true, Since: s.At, Plan: &s.Plan, Withdrawn: s.Withdrawn, Fight: s.Fight}
	if standing.Withdrawn == "" {
		if standing.Missing, err = lacking(m, s, s.Plan); err != nil {
			return Standing{}, err
		}
	}
	standing.InForce = s.Withdrawn == "" && s.Fight == "" && len(standing.Missing) == 0
	return standing, nil
}
