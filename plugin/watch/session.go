package watch

import (
	"errors"
	"fmt"
	"time"

	"github.com/meshvm/meshvm/plugin/mirror"
	registryv1 "github.com/meshvm/meshvm/syncer/api/v1"
)

// session is the VM's side of one stream's conversation, without the stream: what each message does to
// the mirror. It is used by one goroutine.
type session struct {
	mirror   *mirror.Mirror
	observer Observer
	// position is what Hello says. Nil: the mirror holds nothing, or nothing it trusts.
	position *registryv1.Position

	welcome *registryv1.Welcome
	// replacing: the whole view is due, and not applied yet.
	replacing bool
	staging   staging
	// trusted: what the mirror holds may be resumed from, as far as is known.
	trusted bool
	// synced: a heartbeat has proved that the mirror is in step.
	synced bool
}

func newSession(m *mirror.Mirror, observer Observer, trusted bool, stagedLimit int) *session {
	s := &session{mirror: m, observer: observer, trusted: trusted, staging: staging{limit: stagedLimit}}
	if trusted {
		s.position = m.State().Position()
	}
	return s
}

// hello opens the conversation.
func (s *session) hello(config Config) *registryv1.Hello {
	return &registryv1.Hello{
		Node:      config.Node,
		Version:   config.Version,
		Namespace: config.Namespace,
		Position:  s.position,
		// A VM that could follow MODE_COMPARE would say so here.
		Compare: false,
	}
}

// receive takes a message. It returns whether the mirror's revision is to be acknowledged. After an
// error the stream is of no more use; a refusal or errMismatch leaves the mirror untrusted, and with
// what it had.
func (s *session) receive(message *registryv1.WatchResponse) (acknowledge bool, err error) {
	defer func() {
		if refused, ok := errors.AsType[*refusal](err); ok {
			s.trusted = false
			s.observer.Refused(refused.reason)
		}
	}()
	if s.welcome == nil {
		if message.GetWelcome() == nil {
			return false, refuse(ReasonOutOfTurn, "the first message is %s, not Welcome", kindOf(message))
		}
		return false, s.receiveWelcome(message.GetWelcome())
	}
	switch said := message.GetResponse().(type) {
	case nil:
		// A kind of message from the future.
		return false, nil
	case *registryv1.WatchResponse_Delta:
		return s.receiveDelta(said.Delta)
	case *registryv1.WatchResponse_Heartbeat:
		return s.receiveHeartbeat(said.Heartbeat)
	default:
		// DifferingBuckets too: it answers what this version does not send.
		return false, refuse(ReasonOutOfTurn, "%s is not due", kindOf(message))
	}
}

func (s *session) receiveWelcome(welcome *registryv1.Welcome) error {
	if welcome.GetGeneration() == "" {
		return refuse(ReasonWelcome, "Welcome names no generation")
	}
	switch welcome.GetMode() {
	case registryv1.Mode_MODE_RESUME:
		if err := s.checkResume(welcome); err != nil {
			return err
		}
	case registryv1.Mode_MODE_FULL:
		s.replacing = true
	default:
		// MODE_COMPARE would begin here, with the mirror's BucketDigests.
		return refuse(ReasonMode, "the syncer welcomes with %s, which this version cannot follow", welcome.GetMode())
	}
	s.welcome = welcome
	return nil
}

func (s *session) checkResume(welcome *registryv1.Welcome) error {
	held := s.position
	switch domain := s.mirror.State().ClusterDomain(); {
	case held == nil:
		return refuse(ReasonWelcome, "the syncer resumes, but Hello had no position")
	case welcome.GetGeneration() != held.GetGeneration():
		return refuse(ReasonWelcome, "the syncer resumes generation %q, but the mirror is of %q", welcome.GetGeneration(), held.GetGeneration())
	case welcome.GetView() != held.GetView():
		return refuse(ReasonWelcome, "the syncer resumes the view of %q, but the mirror is of %q", welcome.GetView(), held.GetView())
	case welcome.GetClusterDomain() != domain:
		return refuse(ReasonWelcome, "the syncer resumes with cluster domain %q, but the mirror has %q", welcome.GetClusterDomain(), domain)
	}
	return nil
}

func (s *session) receiveDelta(frame *registryv1.Delta) (acknowledge bool, err error) {
	if s.replacing && !frame.GetReplace() {
		return false, refuse(ReasonOutOfTurn, "a Delta without replace came before the whole view")
	}
	whole, err := s.staging.add(frame)
	if err != nil || whole == nil {
		return false, err
	}
	change := whole.change
	change.Generation, change.View, change.ClusterDomain = s.welcome.GetGeneration(), s.welcome.GetView(), s.welcome.GetClusterDomain()
	if err := s.mirror.Apply(change); err != nil {
		if errors.Is(err, mirror.ErrPosition) {
			return false, &refusal{reason: ReasonGap, err: err}
		}
		return false, &refusal{reason: ReasonContent, err: err}
	}
	if change.Replace {
		s.replacing, s.trusted = false, true
		s.observer.FullSync()
	}
	s.observer.Applied(Applied{
		Frames: whole.frames, Bytes: whole.bytes,
		Upserts: len(change.Upserts), Removals: len(change.Removals), Replace: change.Replace,
		ObservedAt: whole.observedAt, AppliedAt: time.Now(),
	})
	return true, nil
}

func (s *session) receiveHeartbeat(heartbeat *registryv1.Heartbeat) (acknowledge bool, err error) {
	switch {
	case s.replacing:
		return false, refuse(ReasonOutOfTurn, "a Heartbeat came before the whole view")
	case s.staging.pending():
		return false, refuse(ReasonOutOfTurn, "a Heartbeat came between the frames of a Delta")
	}
	if err := differs(s.mirror.State(), heartbeat); err != nil {
		s.trusted = false
		s.observer.Mismatch()
		return false, err
	}
	first := !s.synced
	s.synced = true
	var current time.Time
	// Without a valid time the mirror's age goes on growing, which shows.
	if at := heartbeat.GetCurrentAt(); at != nil && at.CheckValid() == nil {
		now := time.Now()
		current = earlier(at.AsTime(), now)
		// Another replica may know less than the last one did: that is no reason to look older. A time in
		// the future is of a clock that has been set back since.
		if confirmed := s.mirror.ConfirmedAt(); current.After(confirmed) || confirmed.After(now) {
			s.mirror.Confirm(current)
		}
	}
	s.observer.Heartbeat(current)
	return first, nil
}

// differs says in what a mirror differs from what a heartbeat proves.
func differs(held *mirror.State, heartbeat *registryv1.Heartbeat) error {
	revision := held.Position().GetRevision()
	if revision == heartbeat.GetRevision() && uint64(held.Digest()) == heartbeat.GetDigest() && uint64(held.Resources()) == heartbeat.GetResources() {
		return nil
	}
	return fmt.Errorf("%w: it has %d resources with digest %016x at revision %d, the syncer %d with %016x at %d", errMismatch,
		held.Resources(), uint64(held.Digest()), revision, heartbeat.GetResources(), heartbeat.GetDigest(), heartbeat.GetRevision())
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// kindOf names a message for people.
func kindOf(message *registryv1.WatchResponse) string {
	switch message.GetResponse().(type) {
	case *registryv1.WatchResponse_Welcome:
		return "a Welcome"
	case *registryv1.WatchResponse_Delta:
		return "a Delta"
	case *registryv1.WatchResponse_Heartbeat:
		return "a Heartbeat"
	case *registryv1.WatchResponse_DifferingBuckets:
		return "DifferingBuckets"
	default:
		return "of an unknown kind"
	}
}
