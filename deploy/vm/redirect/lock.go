package redirect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// lockFile is held by whoever changes the machine. It is never removed, since a waiter may have it open.
	lockFile = "/run/meshvm-redirect/lock"
	// lockWait is how long a run waits for another one, which is bounded itself.
	lockWait = time.Minute
	lockPoll = 50 * time.Millisecond
)

// lock waits until no other run changes the machine, and returns what lets the next one in. The kernel does so too when this
// process ends, however it ends.
func (m Machine) lock(ctx context.Context) (unlock func(), err error) {
	path := m.Path(lockFile)
	if err := makeFolder(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("lock out other runs: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600) // #nosec G304 -- a fixed path
	if err != nil {
		return nil, fmt.Errorf("lock out other runs: %w", err)
	}
	if err := waitForLock(ctx, file); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	// Who holds it is for whoever waits, so a failure to say so is none of the caller's.
	if file.Truncate(0) == nil {
		_, _ = fmt.Fprintf(file, "%d\n", os.Getpid())
	}
	return func() { _ = file.Close() }, nil
}

func waitForLock(ctx context.Context, file *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) // #nosec G115 -- a descriptor fits
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case !errors.Is(err, unix.EWOULDBLOCK):
			return fmt.Errorf("lock %s: %w", file.Name(), err)
		}
		poll := time.NewTimer(lockPoll)
		select {
		case <-poll.C:
		case <-ctx.Done():
			poll.Stop()
			holder := make([]byte, 16)
			n, _ := file.ReadAt(holder, 0)
			return fmt.Errorf("lock %s: process %s holds it: %w", file.Name(), strings.TrimSpace(string(holder[:n])), ctx.Err())
		}
	}
}
