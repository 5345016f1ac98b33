package kubernetes

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"github.com/meshvm/meshvm/syncer/vip"
)

// Statuses as they are, or become, for patches to meet.
const (
	noStatus         = `null`
	emptyStatus      = `{}`
	otherStatus      = `{"conditions":[{"type":"Reconciled","status":"True"}],"observedGeneration":"1"}`
	emptyAddresses   = `{"addresses":[]}`
	otherAddresses   = `{"addresses":[{"host":"a.test","value":"240.240.0.9"}]}`
	ownCondition     = `{"conditions":[{"type":"meshvm.io/VirtualIPs","status":"False","reason":"AddressConflict","message":"m"}]}`
	severalCondition = `{"conditions":[{"type":"First","status":"True"},{"type":"meshvm.io/VirtualIPs","status":"False","reason":"AddressConflict","message":"m"},{"type":"Last","status":"True"}]}`
)

func (f *fixture) writeStatus(name, status string) {
	f.t.Helper()
	f.merge(name, `{"status":null}`, "status")
	if status != noStatus {
		f.merge(name, `{"status":`+status+`}`, "status")
	}
}

func (f *fixture) sendPatch(name string, operations []operation) error {
	f.t.Helper()
	content, err := json.Marshal(operations)
	f.do(err)
	_, err = f.entries().Patch(f.t.Context(), name, types.JSONPatchType, content, metav1.PatchOptions{}, "status")
	return err
}

// conditionTypes are the types of a status's conditions.
func conditionTypes(t *testing.T, entry *unstructured.Unstructured) []string {
	t.Helper()
	list, _, err := unstructured.NestedSlice(entry.Object, "status", "conditions")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, element := range list {
		fields, _ := element.(map[string]any)
		name, _ := fields["type"].(string)
		names = append(names, name)
	}
	return names
}

// A patch that was made for one status does its work on it, and fails on every other.
func TestPatchesMeetOnlyTheStatusThatWasSeen(t *testing.T) {
	f := newFixture(t)
	addresses := []vip.HostAddress{{Host: "a.test", Address: netip.MustParseAddr("240.240.0.1")}}
	problem := &condition{"False", "AddressesExhausted", "none"}
	statuses := map[string]string{
		"none": noStatus, "empty": emptyStatus, "of others": otherStatus, "no addresses": emptyAddresses,
		"other addresses": otherAddresses, "own condition": ownCondition, "several conditions": severalCondition,
	}
	same := func(field string, a, b status) bool {
		if a.present != b.present {
			return false
		}
		if field == "addresses" {
			return string(a.addresses) == string(b.addresses)
		}
		return string(a.conditions) == string(b.conditions)
	}
	for seenName, seen := range statuses {
		for isName, is := range statuses {
			t.Run("seen "+seenName+", is "+isName, func(t *testing.T) {
				f := *f
				f.t = t
				created := f.create(f.serviceEntry("a", "a.test"))
				defer f.delete("a")
				f.writeStatus("a", seen)
				before := readEntry(f.get("a"), serviceEntries)
				f.writeStatus("a", is)
				now := readEntry(f.get("a"), serviceEntries)
				patch, err := patchAddresses(before, addresses)
				f.do(err)
				err = f.sendPatch("a", patch)
				if wants := same("addresses", before.status, now.status); wants != (err == nil) {
					t.Errorf("patch of addresses: got %v, want success: %t", err, wants)
				} else if err == nil {
					if got := f.addresses("a"); !slices.Equal(got, []string{"a.test=240.240.0.1"}) {
						t.Errorf("addresses: got %q, want those of the patch", got)
					}
					if got, want := conditionTypes(t, f.get("a")), conditionTypes(t, created); len(got) < len(want) {
						t.Errorf("conditions: got %q, want them left alone", got)
					}
				} else if !apierrors.IsInvalid(err) {
					t.Errorf("patch of addresses: got %v, want that it is invalid", err)
				}

				f.writeStatus("a", is)
				types := conditionTypes(t, f.get("a"))
				patch, err = patchCondition(before, problem, time.Now())
				f.do(err)
				err = f.sendPatch("a", patch)
				if wants := same("conditions", before.status, now.status); wants != (err == nil) {
					t.Errorf("patch of the condition: got %v, want success: %t", err, wants)
				} else if err == nil {
					want := types
					if before.status.condition == nil {
						want = append(want, ConditionType)
					}
					if got := conditionTypes(t, f.get("a")); !slices.Equal(got, want) {
						t.Errorf("conditions: got %q, want %q", got, want)
					}
					if got, want := f.condition("a"), "False AddressesExhausted: none"; got != want {
						t.Errorf("condition: got %q, want %q", got, want)
					}
				}
			})
		}
	}
}

func TestPatchesTakeAway(t *testing.T) {
	f := newFixture(t)
	f.create(f.serviceEntry("a", "a.test"))
	tests := map[string]struct {
		status    string
		types     []string
		addresses int
	}{
		"only ours":         {ownCondition, nil, 0},
		"ours among others": {severalCondition, []string{"First", "Last"}, 0},
		"addresses":         {otherAddresses, nil, 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := *f
			f.t = t
			f.writeStatus("a", test.status)
			seen := readEntry(f.get("a"), serviceEntries)
			patch, err := patchCondition(seen, nil, time.Now())
			if test.addresses > 0 {
				patch, err = patchAddresses(seen, nil)
			}
			f.do(err)
			f.do(f.sendPatch("a", patch))
			if got := conditionTypes(t, f.get("a")); !slices.Equal(got, test.types) {
				t.Errorf("conditions: got %q, want %q", got, test.types)
			}
			if got := f.addresses("a"); len(got) > 0 {
				t.Errorf("addresses: got %q, want none", got)
			}
		})
	}
}

func TestPatchFailsOnAnObjectThatTookThePlaceOfAnother(t *testing.T) {
	f := newFixture(t)
	f.create(f.serviceEntry("a", "a.test"))
	seen := readEntry(f.get("a"), serviceEntries)
	f.delete("a")
	f.create(f.serviceEntry("a", "other.test"))
	patch, err := patchAddresses(seen, []vip.HostAddress{{Host: "a.test", Address: netip.MustParseAddr("240.240.0.1")}})
	f.do(err)
	if err := f.sendPatch("a", patch); !apierrors.IsInvalid(err) {
		t.Errorf("patch: got %v, want that it is invalid", err)
	}
	seen = readEntry(f.get("a"), serviceEntries)
	f.merge("a", `{"spec":{"hosts":["changed.test"]}}`)
	patch, err = patchAddresses(seen, []vip.HostAddress{{Host: "other.test", Address: netip.MustParseAddr("240.240.0.1")}})
	f.do(err)
	if err := f.sendPatch("a", patch); !apierrors.IsInvalid(err) {
		t.Errorf("patch after a change of the spec: got %v, want that it is invalid", err)
	}
	if got := f.addresses("a"); len(got) > 0 {
		t.Errorf("addresses: got %q, want none", got)
	}
}
