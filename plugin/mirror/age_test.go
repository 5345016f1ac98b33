package mirror

import (
	"path/filepath"
	"testing"
	"time"
)

// machineClock is a machine's two clocks: one that can be set, and one that only goes on.
type machineClock struct {
	wall    time.Time
	elapsed time.Duration
}

func newMachineClock() *machineClock { return &machineClock{wall: time.Unix(1_700_000_000, 0)} }

// pass lets time go by.
func (c *machineClock) pass(d time.Duration) { c.wall, c.elapsed = c.wall.Add(d), c.elapsed+d }

// set changes what the clock on the wall says.
func (c *machineClock) set(by time.Duration) { c.wall = c.wall.Add(by) }

func (c *machineClock) mirror() *Mirror {
	return New(Options{Now: func() time.Time { return c.wall }, Elapsed: func() time.Duration { return c.elapsed }})
}

// TestAge sets the clock while a mirror is connected and while it is not.
func TestAge(t *testing.T) {
	const day = 24 * time.Hour
	tests := map[string]struct {
		happens func(c *machineClock, m *Mirror)
		want    time.Duration
	}{
		"never confirmed": {func(c *machineClock, _ *Mirror) { c.pass(time.Hour) }, 0},
		"just confirmed":  {func(c *machineClock, m *Mirror) { m.Confirm(c.wall) }, 0},
		"time goes by": {func(c *machineClock, m *Mirror) {
			m.Confirm(c.wall)
			c.pass(time.Minute)
		}, time.Minute},
		"the source was away already": {func(c *machineClock, m *Mirror) {
			m.Confirm(c.wall.Add(-time.Hour))
			c.pass(time.Minute)
		}, time.Hour + time.Minute},
		"the clock goes back": {func(c *machineClock, m *Mirror) {
			m.Confirm(c.wall)
			c.pass(time.Minute)
			c.set(-time.Hour)
			c.pass(time.Minute)
		}, 2 * time.Minute},
		"the clock goes back, and the source was away already": {func(c *machineClock, m *Mirror) {
			m.Confirm(c.wall.Add(-10 * time.Minute))
			c.set(-time.Hour)
			c.pass(time.Minute)
		}, 11 * time.Minute},
		"the clock goes back, and the next heartbeat comes": {func(c *machineClock, m *Mirror) {
			m.Confirm(c.wall)
			c.set(-time.Hour)
			m.Confirm(c.wall)
			c.pass(time.Minute)
		}, time.Minute},
		"the clock goes back before 1970": {func(c *machineClock, m *Mirror) {
			m.Confirm(c.wall)
			c.wall = time.Unix(-1000, 0)
			c.pass(time.Minute)
		}, time.Minute},
		"the clock goes forward, or the machine was suspended": {func(c *machineClock, m *Mirror) {
			m.Confirm(c.wall)
			c.set(day)
			c.pass(time.Minute)
		}, day + time.Minute},
		"the clock goes forward, and the next heartbeat comes": {func(c *machineClock, m *Mirror) {
			m.Confirm(c.wall)
			c.set(day)
			m.Confirm(c.wall)
			c.pass(time.Minute)
		}, time.Minute},
		"to and fro": {func(c *machineClock, m *Mirror) {
			m.Confirm(c.wall)
			for range 10 {
				c.set(day)
				c.pass(time.Second)
				c.set(-day)
				c.pass(time.Second)
			}
		}, 20 * time.Second},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newMachineClock()
			m := c.mirror()
			tc.happens(c, m)
			if got := m.Age(); got != tc.want {
				t.Errorf("Age: got %v, want %v", got, tc.want)
			}
		})
	}
}

// TestAgeOfASnapshot starts machines whose clock is not what it was when the snapshot was saved.
func TestAgeOfASnapshot(t *testing.T) {
	tests := map[string]struct {
		set  time.Duration // while the machine is off
		wait time.Duration // since it is on
		then time.Duration // the clock is set once more
		want time.Duration
	}{
		"saved an hour ago":                      {set: time.Hour, want: time.Hour},
		"saved an hour ago, on for a minute":     {set: time.Hour, wait: time.Minute, want: time.Hour + time.Minute},
		"saved in the future":                    {set: -time.Hour, want: 0},
		"saved in the future, on for a minute":   {set: -time.Hour, wait: time.Minute, want: time.Minute},
		"the clock is set right after the start": {set: -time.Hour, wait: time.Minute, then: 2 * time.Hour, want: time.Hour + time.Minute},
		"the clock is set back after the start":  {set: time.Hour, wait: time.Minute, then: -2 * time.Hour, want: time.Hour + time.Minute},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			c := newMachineClock()
			m := sample(t)
			m.Confirm(c.wall)
			path := filepath.Join(t.TempDir(), "registry.snapshot")
			if err := m.Save(path); err != nil {
				t.Fatal(err)
			}
			c.set(tc.set)
			again := c.mirror()
			if err := again.Load(path); err != nil {
				t.Fatal(err)
			}
			c.pass(tc.wait)
			c.set(tc.then)
			if got := again.Age(); got != tc.want {
				t.Errorf("Age: got %v, want %v", got, tc.want)
			}
		})
	}
}
