package redirect

import "time"

// State is what this package has changed on the machine. It is in StateFile before anything is changed, and gone after a revert.
type State struct {
	// Boot is the boot that Plan was applied in. Another boot means that nobody reverted it.
	Boot string    `json:"boot"`
	At   time.Time `json:"at"`
	Plan Plan      `json:"plan"`
	// Applied: every step was done. Else a revert has to expect any of them.
	Applied bool `json:"applied"`
	// Withdrawn: CoreDNS cannot answer, so the machine's own resolution is in force until it can. Why says since when and what happened.
	Withdrawn string `json:"withdrawn,omitempty"`
	// Fight: others go on overwriting what was applied. Empty: nobody does.
	Fight string `json:"fight,omitempty"`
	// Backup is /etc/resolv.conf as it was, where mode direct replaced it.
	Backup *Backup `json:"backup,omitempty"`
}

// Backup is a file as it was.
type Backup struct {
	// Target is where it pointed as a symbolic link. Empty: it was a file, with Content and Permissions; or, with Missing, nothing.
	Target      string `json:"target,omitempty"`
	Missing     bool   `json:"missing,omitempty"`
	Content     []byte `json:"content,omitempty"`
	Permissions uint32 `json:"permissions,omitempty"`
}
