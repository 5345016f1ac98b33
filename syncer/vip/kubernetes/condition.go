package kubernetes

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/meshvm/meshvm/syncer/vip"
)

// ConditionType is the condition of a ServiceEntry whose hosts lack virtual IPs or have wrong ones. It is there
// only then, with status False, and goes when all is well.
const ConditionType = "meshvm.io/VirtualIPs"

// maxConditionMessage bounds what a condition says.
const maxConditionMessage = 1024

// condition is what a condition says. When it says something else, it has changed.
type condition struct {
	status, reason, message string
}

func readCondition(fields map[string]any) *condition {
	var c condition
	c.status, _ = fields["status"].(string)
	c.reason, _ = fields["reason"].(string)
	c.message, _ = fields["message"].(string)
	return &c
}

// newCondition says what is wrong. Nil: nothing.
func newCondition(problems []vip.Problem) *condition {
	if len(problems) == 0 {
		return nil
	}
	parts := make([]string, 0, len(problems))
	for _, problem := range problems {
		parts = append(parts, problem.Host+": "+problem.Message)
	}
	message := strings.Join(parts, "; ")
	if len(message) > maxConditionMessage {
		message = strings.ToValidUTF8(message[:maxConditionMessage], "") + "..."
	}
	return &condition{"False", string(problems[0].Reason), message}
}

func (c *condition) equal(other *condition) bool {
	return c == nil && other == nil || c != nil && other != nil && *c == *other
}

// encode is an IstioCondition.
func (c *condition) encode(now time.Time) (json.RawMessage, error) {
	at := now.UTC().Format(time.RFC3339)
	encoded, err := json.Marshal(map[string]string{
		"type": ConditionType, "status": c.status, "reason": c.reason, "message": c.message,
		"lastProbeTime": at, "lastTransitionTime": at,
	})
	if err != nil {
		return nil, fmt.Errorf("encode condition %s: %w", ConditionType, err)
	}
	return encoded, nil
}
