package watch

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// comeAgain is what a syncer ends a stream with only so that it is opened anew.
func comeAgain(t *testing.T, domain string) error {
	t.Helper()
	said, err := status.New(codes.Aborted, "come again").WithDetails(&errdetails.ErrorInfo{Reason: registryv1.ReasonComeAgain, Domain: domain})
	if err != nil {
		t.Fatal(err)
	}
	return said.Err()
}

// TestComesAgainWhenAsked holds that a syncer that asks for another stream costs no delay, unless it does so all
// the time, and whatever faults there were before.
func TestComesAgainWhenAsked(t *testing.T) {
	a := service("a", 1)
	tests := map[string]struct {
		domain string
		// lived is how long each stream lives, and want when they come, in milliseconds.
		lived time.Duration
		want  []int64
	}{
		"at once":                   {registryv1.ErrorDomain, 400 * time.Millisecond, []int64{0, 400, 800, 1200, 1600}},
		"slowed down, all the time": {registryv1.ErrorDomain, 0, []int64{0, 500, 1500, 3500, 7500}},
		"by somebody else":          {"example.com", 400 * time.Millisecond, []int64{0, 900, 2300, 4700, 9100}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, mirrorAt(t, 3, a), []string{first}, func(v *virtual) {
				ends := func(lived time.Duration, with error) time.Time {
					call := v.only().next(v.t)
					came := time.Now()
					call.send(v.t, welcomeWith(registryv1.Mode_MODE_RESUME), proof(3, a))
					time.Sleep(lived)
					v.settle()
					call.end <- with
					return came
				}
				ends(0, errShutdown) // A fault, which makes the next one cost more.
				var at []int64
				var began time.Time
				for i := range test.want {
					came := ends(test.lived, comeAgain(v.t, test.domain))
					if i == 0 {
						began = came
					}
					at = append(at, came.Sub(began).Milliseconds())
				}
				if !slices.Equal(at, test.want) {
					v.t.Errorf("streams came at %v ms, want %v", at, test.want)
				}
			})
		})
	}
}
