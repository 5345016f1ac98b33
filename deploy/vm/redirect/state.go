package redirect

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"time"
)

// State is what this package has changed on the machine. It is in StateFile before anything is changed, and gone after a revert.
type State struct {
	// Version is stateVersion. Another one was written by another version of this program.
	Version int `json:"version"`
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
	// Before is /etc/resolv.conf as it was in modes in which its owner writes it: for the options that the owner would leave out, and
	// for when the owner does not run any more.
	Before []byte `json:"before,omitempty"`
	// Rules of nftables may be loaded, whatever the Plan says by now.
	Rules bool `json:"rules,omitempty"`
	// Folders are those that had to be made, the innermost first.
	Folders []string `json:"folders,omitempty"`

	// settled: all steps of another Plan of this mode were done, so that whoever reads our files has read them.
	settled bool
}

// hasRules: rules of nftables may be loaded.
func (s *State) hasRules() bool { return s.Rules || s.Plan.Transparent && s.Withdrawn == "" }

// Backup is a file as it was.
type Backup struct {
	// Target is where it pointed as a symbolic link. Empty: it was a file, with Content and Permissions; or, with Missing, nothing.
	Target      string `json:"target,omitempty"`
	Missing     bool   `json:"missing,omitempty"`
	Content     []byte `json:"content,omitempty"`
	Permissions uint32 `json:"permissions,omitempty"`
	// Owner and Group are those of the file.
	Owner uint32 `json:"owner,omitempty"`
	Group uint32 `json:"group,omitempty"`
	// InPlace: the file could not be replaced, as where something is mounted over it, so its content was rewritten. A symbolic
	// link is still there then, and Content is that of the file behind it.
	InPlace bool `json:"in_place,omitempty"`
}

const (
	stateVersion = 1
	// stateAside is where a StateFile goes that cannot be used.
	stateAside = StateFile + ".unusable"
	// stateLimit is far above what a State needs whose Backup is as large as it may be.
	stateLimit = 8 << 20
)

// UnusableState is the error for a StateFile that is not one of this program. The machine itself has to be looked at then.
type UnusableState struct {
	File   string
	Reason string
}

func (e *UnusableState) Error() string { return fmt.Sprintf("%s cannot be used: %s", e.File, e.Reason) }

// LoadState reads StateFile and changes nothing. Without one it is nil. The error is an *UnusableState where there is one that is torn,
// somebody else's or of a newer version.
func LoadState(m Machine) (*State, error) {
	path := m.Path(StateFile)
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0) // #nosec G304 -- a fixed path
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.Is(err, syscall.ELOOP):
		return nil, &UnusableState{path, "it is a symbolic link"}
	case err != nil:
		return nil, fmt.Errorf("read the state: %w", err)
	}
	defer file.Close()
	if reason, err := foreign(file); err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	} else if reason != "" {
		return nil, &UnusableState{path, reason}
	}
	content, err := io.ReadAll(io.LimitReader(file, stateLimit+1))
	if err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	state, reason := parseState(content)
	if reason != "" {
		return nil, &UnusableState{path, reason}
	}
	return state, nil
}

// foreign says why a file cannot be one that this program has written. Whoever runs it wrote it.
func foreign(file *os.File) (reason string, err error) {
	info, err := file.Stat()
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() {
		return fmt.Sprintf("it is no file but %s", info.Mode().Type()), nil
	}
	if info.Mode().Perm()&0o022 != 0 {
		return fmt.Sprintf("others can write it (%s)", info.Mode().Perm()), nil
	}
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Uid != 0 && int(owner.Uid) != os.Geteuid() {
		return fmt.Sprintf("user %d owns it", owner.Uid), nil
	}
	return "", nil
}

func parseState(content []byte) (state *State, reason string) {
	var version struct {
		Version int `json:"version"`
	}
	if len(content) > stateLimit {
		return nil, fmt.Sprintf("it is larger than %d bytes", stateLimit)
	}
	if len(bytes.TrimSpace(content)) == 0 {
		return nil, "it is empty"
	}
	if err := json.Unmarshal(content, &version); err != nil {
		return nil, fmt.Sprintf("it is torn or no JSON: %v", err)
	}
	if version.Version > stateVersion {
		return nil, fmt.Sprintf("it is of version %d, and this program knows up to %d", version.Version, stateVersion)
	}
	if version.Version < 1 {
		return nil, "it has no version"
	}
	state = &State{}
	if err := json.Unmarshal(content, state); err != nil {
		return nil, fmt.Sprintf("it is torn: %v", err)
	}
	if state.Plan.Mode != None && modeOf(state.Plan.Mode) == nil {
		return nil, fmt.Sprintf("it has the unknown mode %q", state.Plan.Mode)
	}
	return state, ""
}

// takeState is LoadState for whoever is about to change the machine: what cannot be used is set aside and said in warnings.
func takeState(m Machine) (state *State, warnings []string, err error) {
	state, err = LoadState(m)
	var unusable *UnusableState
	if !errors.As(err, &unusable) {
		return state, nil, err
	}
	if err := os.Rename(m.Path(StateFile), m.Path(stateAside)); err != nil {
		return nil, nil, fmt.Errorf("set aside the state, since %w: %w", unusable, err)
	}
	return nil, []string{fmt.Sprintf("%s; it is now %s, and what was changed is told from the machine itself", unusable, m.Path(stateAside))}, nil
}

// save has the State on disk, or the one before it.
func (s *State) save(m Machine) error {
	s.Version = stateVersion
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	if err := m.replace(StateFile, append(content, '\n'), 0o644, ours); err != nil {
		return fmt.Errorf("write the state: %w", err)
	}
	return nil
}

// Update changes what is remembered of the redirect, such as State.Fight, while nobody else does. Without a State nothing happens.
func Update(ctx context.Context, m Machine, change func(*State)) error {
	unlock, err := m.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	state, err := LoadState(m)
	if err != nil || state == nil {
		return err
	}
	change(state)
	return state.save(m)
}

// boot is the kernel's name for this boot. Empty where the machine has none.
func (m Machine) boot() (string, error) {
	id, err := os.ReadFile(m.Path("/proc/sys/kernel/random/boot_id"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("tell this boot from others: %w", err)
	}
	return strings.TrimSpace(string(id)), nil
}
