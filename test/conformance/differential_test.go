package conformance

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

const (
	// seeds and services size the test: each seed makes so many Services, and about as many EndpointSlices.
	seeds    = 20
	services = 60
	// enough is the least number of questions that must have been asked.
	enough = 100_000
	// reported is how many sorts of differences that no rule explains are told, by one example each.
	reported = 25
)

// testSameAsCoreDNS makes up clusters and asks stock CoreDNS and the plugin every name and type that their
// objects imply, and near misses: once after the objects were created, and again after many of them have
// changed. The replies must be equal, or differ just as a rule says.
func testSameAsCoreDNS(t *testing.T, p *pair) {
	c := p.cluster
	var lasting []change
	for _, name := range lastingNamespaces {
		lasting = append(lasting, create(namespaceNamed(name)))
	}
	c.make(lasting...)
	before := c.world()
	total := newTally()
	for seed := range uint64(seeds) {
		g := newGenerator(seed)
		var fresh []change
		for _, name := range g.freshNamespaces() {
			fresh = append(fresh, create(namespaceNamed(name)))
		}
		c.make(fresh...)
		c.make(g.objects(services)...)
		p.inStep()
		w := c.world()
		total.add(t, fmt.Sprintf("seed %d, created", seed), p.compare(w, g.questions(w)), w)

		c.make(g.mutations(w, before)...)
		p.inStep()
		w = c.world()
		total.add(t, fmt.Sprintf("seed %d, changed", seed), p.compare(w, g.questions(w)), w)
		c.clear(w, before)
	}
	total.conclude(t)
}

// difference is a question whose replies are not what they must be.
type difference struct {
	exchange
	// rule is the one that covers the question, nil where there is none.
	rule *rule
	err  error
}

// result is what became of a list of questions.
type result struct {
	questions   int
	byRule      map[string]int
	differences []difference
}

// compare asks both servers every question, from two goroutines, and judges the replies.
func (p *pair) compare(w *world, questions []question) result {
	const askers = 2
	results := make([]result, askers)
	var group sync.WaitGroup
	for i, part := range slices.Collect(slices.Chunk(questions, (len(questions)+askers-1)/askers)) {
		group.Go(func() {
			results[i].byRule = map[string]int{}
			for _, q := range part {
				results[i].judge(p.ask(w, q))
			}
		})
	}
	group.Wait()
	whole := result{questions: len(questions), byRule: map[string]int{}}
	for _, part := range results {
		for name, count := range part.byRule {
			whole.byRule[name] += count
		}
		whole.differences = append(whole.differences, part.differences...)
	}
	return whole
}

func (p *pair) ask(w *world, q question) exchange {
	return exchange{
		pair: p, world: w, question: q, node: w.at(q.name),
		theirs: viewOf(p.theirs.askAt(q.at, q.message())),
		ours:   viewOf(p.ours.askAt(q.at, q.message())),
	}
}

// judge counts an exchange under its rule, or among the differences.
func (r *result) judge(x exchange) {
	var covering []*rule
	for i := range rules {
		// Transfers are the same to both, whatever the name.
		if x.question.qtype != dns.TypeAXFR && x.question.qtype != dns.TypeIXFR && rules[i].covers(x.question, x.node) {
			covering = append(covering, &rules[i])
		}
	}
	switch len(covering) {
	case 0:
		if !x.theirs.equal(x.ours) {
			r.differences = append(r.differences, difference{exchange: x, err: fmt.Errorf("no rule covers this")})
		}
	case 1:
		rule := covering[0]
		if err := rule.check(x); err != nil {
			r.differences = append(r.differences, difference{x, rule, err})
			return
		}
		r.byRule[rule.name]++
	default:
		r.differences = append(r.differences, difference{x, covering[0], fmt.Errorf("rule %q covers this too", covering[1].name)})
	}
}

// String tells a difference in full.
func (d difference) String() string {
	rule := ""
	if d.rule != nil {
		rule = fmt.Sprintf("rule %q: ", d.rule.name)
	}
	return fmt.Sprintf("%v, at which is %s: %s%v\n\tCoreDNS: %v\n\tmeshvm:  %v", d.question, d.node.kind, rule, d.err, d.theirs, d.ours)
}

// sort is what differences of one cause have in common, as far as that can be told.
type sort struct {
	rule         *rule
	reverse      bool
	kind         kind
	qtype        uint16
	theirs, ours int
}

func (d difference) sort() sort {
	return sort{d.rule, d.node.inReverseZone(), d.node.kind, d.question.qtype, d.theirs.rcode, d.ours.rcode}
}

// tally sums up the results of all seeds.
type tally struct {
	questions, objects, wrong int
	byRule                    map[string]int
	// sorts counts differences that no rule explains, by sort.
	sorts map[sort]int
}

func newTally() *tally { return &tally{byRule: map[string]int{}, sorts: map[sort]int{}} }

// add adds the result of a phase, and fails for the first difference of each sort.
func (s *tally) add(t *testing.T, phase string, r result, w *world) {
	t.Helper()
	s.questions += r.questions
	s.objects += len(w.namespaces) + len(w.services) + len(w.slices)
	for name, count := range r.byRule {
		s.byRule[name] += count
	}
	s.wrong += len(r.differences)
	for _, d := range r.differences {
		if s.sorts[d.sort()]++; s.sorts[d.sort()] == 1 && len(s.sorts) <= reported {
			t.Errorf("%s: %v", phase, d)
		}
	}
}

// conclude logs the totals, and fails for rules that never showed and for too few questions.
func (s *tally) conclude(t *testing.T) {
	t.Helper()
	intended := 0
	for _, count := range s.byRule {
		intended += count
	}
	t.Logf("%d seeds in two phases each, %d objects in all of them, %d questions: %d differences by rule, %d others of %d sorts",
		seeds, s.objects, s.questions, intended, s.wrong, len(s.sorts))
	for _, rule := range rules {
		t.Logf("%7d  %s", s.byRule[rule.name], rule.name)
		if s.byRule[rule.name] == 0 {
			t.Errorf("Rule %q: no question showed this difference, so the rule says nothing", rule.name)
		}
	}
	if s.questions < enough {
		t.Errorf("Questions: got %d, want at least %d", s.questions, enough)
	}
}
