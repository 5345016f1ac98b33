package mirror

import registryv1 "github.com/meshvm/meshvm/syncer/api/v1"

// Claim is a resource's claim of a host.
type Claim struct {
	Key     string
	Service *registryv1.Service
}

// Ruling is how the claims of a host were ruled on: those that won, joined, then the others, in order of precedence; and why. An
// endpoint has the claims of its Service. It decodes all claims anew: it is for who explains an answer, not for who answers.
func (s *State) Ruling(h *Host) (won, lost []Claim, reason string) {
	if h.isEndpoint() {
		service, _ := s.glanceAt(h.service(), new(decoder))
		if service == nil {
			return nil, nil, ""
		}
		h = service
	}
	keys := map[*registryv1.Service]string{}
	var claims []*registryv1.Service
	for _, key := range h.Claims {
		held, found := s.resources.Get(key)
		if !found {
			continue
		}
		body, err := decodeBody([]byte(held.body(key)))
		if err != nil || body.GetService() == nil {
			continue // It is a Service that decoded when it came.
		}
		claims = append(claims, body.GetService())
		keys[body.GetService()] = key
	}
	ruling := registryv1.ResolveClaims(claims, s.View())
	for _, service := range ruling.Winners {
		won = append(won, Claim{keys[service], service})
	}
	for _, service := range ruling.Losers {
		lost = append(lost, Claim{keys[service], service})
	}
	return won, lost, ruling.Reason
}

// Names is the number of hosts that have a claim, wildcards among them.
func (s *State) Names() int { return s.hosts.Len() + s.wildcards.Len() }
