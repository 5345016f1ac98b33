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
	// held is what the mirror held when the stream was opened. The position and the holding that Hello
	// says are of it. Nil: the mirror holds nothing, or nothing it trusts. The state is let go with the
	// Welcome, but for a Compare.
	held     *mirror.State
	position *registryv1.Position
	holding  *registryv1.Holding

	welcome *registryv1.Welcome
	// replacing: the whole view is due, and not applied yet.
	replacing bool
	staging   staging
	// comparing is the Compare that goes on, nil outside of one.
	comparing *comparison
	// compared: what the mirror holds is the outcome of a Compare, and no heartbeat has proved it yet.
	compared bool
	// answers are what the syncer is to be sent.
	answers []*registryv1.WatchRequest
	// trust is how far what the mirror holds is to be relied on by the next stream.
	trust trust
	// synced: a heartbeat has proved that the mirror is in step.
	synced bool
	// current is the latest time that a heartbeat named, by the syncer's clock.
	current time.Time
}

// trust is how far what a mirror holds can be relied on when a stream is opened.
type trust int

const (
	// trustPosition: it is what its position says, so that a syncer may resume from there.
	trustPosition trust = iota
	// trustContent: it is not of a revision, and a Compare finds out in what it differs.
	trustContent
	// trustNothing: a Compare has not helped. The whole view is wanted.
	trustNothing
)

func newSession(m *mirror.Mirror, observer Observer, trust trust, stagedLimit int) *session {
	s := &session{mirror: m, observer: observer, trust: trust, held: m.State(), staging: staging{limit: stagedLimit}}
	if trust == trustPosition {
		s.position = s.held.Position()
	}
	if trust != trustNothing {
		s.holding = s.held.Holding()
	}
	return s
}

// takeAnswers is what the syncer is to be sent, each only once.
func (s *session) takeAnswers() []*registryv1.WatchRequest {
	answers := s.answers
	s.answers = nil
	return answers
}

// distrust notes that the mirror is not what it should be, or that the syncer cannot be followed from
// it. Where a Compare has led to that, the next stream must not begin with one.
func (s *session) distrust() {
	if s.comparing != nil || s.compared || s.trust == trustNothing {
		s.trust = trustNothing
		return
	}
	s.trust = trustContent
}

// hello opens the conversation.
func (s *session) hello(config Config) *registryv1.Hello {
	return &registryv1.Hello{
		Node:      config.Node,
		Version:   config.Version,
		Namespace: config.Namespace,
		Position:  s.position,
		Compare:   true,
		Holding:   s.holding,
	}
}

// receive takes a message. It returns whether the mirror's revision is to be acknowledged; answers holds
// what the syncer is to be sent. After an error the stream is of no more use; a refusal or errMismatch
// leaves the mirror less trusted, and with what it had.
func (s *session) receive(message *registryv1.WatchResponse) (acknowledge bool, err error) {
	defer func() {
		if refused, ok := errors.AsType[*refusal](err); ok {
			// What the mirror holds has nothing to do with an absurd resource. Where it is, a resume costs least,
			// and brings what has taken the resource's place. The whole view would hold it too.
			if !refused.absurd() {
				s.distrust()
			}
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
	case *registryv1.WatchResponse_DifferingBuckets:
		return false, s.receiveDifferingBuckets(said.DifferingBuckets)
	default:
		return false, refuse(ReasonOutOfTurn, "%s is not due", kindOf(message))
	}
}

func (s *session) receiveWelcome(welcome *registryv1.Welcome) error {
	if err := checkWelcome(welcome); err != nil {
		return err
	}
	switch welcome.GetMode() {
	case registryv1.Mode_MODE_RESUME:
		if err := s.checkResume(welcome); err != nil {
			return err
		}
	case registryv1.Mode_MODE_FULL:
		s.replacing = true
	case registryv1.Mode_MODE_COMPARE:
		if err := s.checkCompare(welcome); err != nil {
			return err
		}
		comparing, answer, err := beginCompare(welcome, s.held)
		if err != nil {
			return err
		}
		s.comparing = comparing
		if answer != nil {
			s.answers = append(s.answers, answer)
		}
	default:
		return refuse(ReasonMode, "the syncer welcomes with %s, which this version cannot follow", welcome.GetMode())
	}
	s.welcome, s.held = welcome, nil
	return nil
}

// checkWelcome reports what of a Welcome no syncer says, whatever the mode.
func checkWelcome(welcome *registryv1.Welcome) error {
	generation, view, domain := welcome.GetGeneration(), welcome.GetView(), welcome.GetClusterDomain()
	if generation == "" {
		return refuse(ReasonWelcome, "Welcome names no generation")
	}
	if err := registryv1.CheckText(generation); err != nil {
		return refuse(ReasonWelcome, "the generation %s %w", quote(generation), err)
	}
	if view != "" && registryv1.LabelFault(view) != "" {
		return refuse(ReasonWelcome, "the view of %s is of no namespace: %s", quote(view), registryv1.LabelFault(view))
	}
	if err := registryv1.CheckName(domain); err != nil {
		return refuse(ReasonWelcome, "the cluster domain %s %w", quote(domain), err)
	}
	return nil
}

// quote makes a peer's string safe to print, and no longer than a line.
func quote(s string) string { return fmt.Sprintf("%.300q", s) }

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

func (s *session) checkCompare(welcome *registryv1.Welcome) error {
	switch held := s.holding; {
	case held == nil:
		return refuse(ReasonWelcome, "the syncer compares, but Hello did not say what the mirror holds")
	case welcome.GetView() != held.GetView():
		return refuse(ReasonWelcome, "the syncer compares the view of %q, but the mirror is of %q", welcome.GetView(), held.GetView())
	case welcome.GetClusterDomain() != held.GetClusterDomain():
		return refuse(ReasonWelcome, "the syncer compares with cluster domain %q, but the mirror has %q", welcome.GetClusterDomain(), held.GetClusterDomain())
	}
	return nil
}

func (s *session) receiveDifferingBuckets(said *registryv1.DifferingBuckets) error {
	switch {
	case s.comparing == nil:
		return refuse(ReasonOutOfTurn, "DifferingBuckets are not due")
	case s.staging.pending():
		return refuse(ReasonOutOfTurn, "DifferingBuckets came between the frames of a Delta")
	}
	answers, err := s.comparing.list(said)
	s.answers = append(s.answers, answers...)
	return err
}

func (s *session) receiveDelta(frame *registryv1.Delta) (acknowledge bool, err error) {
	if s.replacing && !frame.GetReplace() {
		return false, refuse(ReasonOutOfTurn, "a Delta without replace came before the whole view")
	}
	// In place of any step of a Compare the whole view may come.
	if s.comparing != nil && s.comparing.asked && !frame.GetReplace() {
		return false, refuse(ReasonOutOfTurn, "a Delta without replace came before DifferingBuckets")
	}
	if len(frame.GetRemovedPlaces()) > 0 && (s.comparing == nil || frame.GetReplace()) {
		return false, refuse(ReasonFrames, "a Delta that is not the outcome of a Compare removes by place")
	}
	whole, err := s.staging.add(frame)
	if err != nil || whole == nil {
		return false, err
	}
	compared := s.comparing
	if compared != nil && !whole.change.Replace {
		if err := compared.conclude(whole); err != nil {
			return false, err
		}
	}
	change := whole.change
	change.Generation, change.View, change.ClusterDomain = s.welcome.GetGeneration(), s.welcome.GetView(), s.welcome.GetClusterDomain()
	if err := s.mirror.Apply(change); err != nil {
		return false, contentRefusal(err)
	}
	switch {
	case change.Replace:
		s.replacing, s.comparing, s.compared, s.trust = false, nil, false, trustPosition
		s.observer.FullSync()
	case compared != nil:
		s.comparing, s.compared, s.trust = nil, true, trustPosition
		s.observer.Compared(compared.bytes)
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
	case s.comparing != nil:
		return false, refuse(ReasonOutOfTurn, "a Heartbeat came before the outcome of the Compare")
	case s.staging.pending():
		return false, refuse(ReasonOutOfTurn, "a Heartbeat came between the frames of a Delta")
	}
	if err := differs(s.mirror.State(), heartbeat); err != nil {
		s.distrust()
		s.observer.Mismatch()
		return false, err
	}
	first := !s.synced
	s.synced, s.compared = true, false
	var current time.Time
	// Without a valid time the mirror's age goes on growing, which shows.
	if at := heartbeat.GetCurrentAt(); at != nil && at.CheckValid() == nil {
		now := time.Now()
		current = earlier(at.AsTime(), now)
		// A syncer whose source is away names the same time over and over. Where this machine's clock is
		// behind, that would look like the present each time.
		news := at.AsTime().After(s.current)
		// Another replica may know less than the last one did: that is no reason to look older. A time in
		// the future is of a clock that has been set back since.
		if confirmed := s.mirror.ConfirmedAt(); news && (current.After(confirmed) || confirmed.After(now)) {
			s.current = at.AsTime()
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
