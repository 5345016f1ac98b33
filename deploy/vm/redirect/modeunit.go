package redirect

import (
	"context"
	"strings"
)

// active: the unit runs. systemctl exits with another code than 0 where it does not, and says so in one word. On a machine without
// systemd no unit does.
func (m Machine) active(ctx context.Context, unit string) (bool, error) {
	booted, err := m.exists("/run/systemd/system")
	if err != nil || !booted {
		return false, err
	}
	said, err := m.output(ctx, "systemctl", "is-active", unit)
	switch word := strings.TrimSpace(said); word {
	case "active", "reloading", "activating":
		return true, nil
	case "inactive", "failed", "deactivating", "unknown", "maintenance":
		return false, nil
	default:
		return false, err
	}
}

// stopping: the machine is being shut down, and systemd starts nothing any more: it refuses a start as destructive.
func (m Machine) stopping(ctx context.Context) bool {
	said, _ := m.output(ctx, "systemctl", "is-system-running")
	return strings.TrimSpace(said) == "stopping"
}
