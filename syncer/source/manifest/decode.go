package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	networkingv1 "istio.io/client-go/pkg/apis/networking/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubejson "sigs.k8s.io/json"

	"github.com/meshvm/meshvm/syncer/source"
)

// kind is how a kind of object is read.
type kind struct {
	name string
	// versions are the values of apiVersion that are read, the preferred first.
	versions   []string
	namespaced bool
	// decode may return nothing for an object that is passed over.
	decode func(value) (metav1.Object, []fault)
}

var istioVersions = []string{"networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"}

// kinds that are read. Objects of all others are passed over: folders hold Deployments too.
var kinds = []kind{
	{source.KindService, []string{"v1"}, true, decodeObject[corev1.Service]},
	{source.KindNamespace, []string{"v1"}, false, decodeObject[corev1.Namespace]},
	{source.KindEndpointSlice, []string{"discovery.k8s.io/v1"}, true, decodeObject[discoveryv1.EndpointSlice]},
	{source.KindServiceEntry, istioVersions, true, decodeServiceEntry},
	{source.KindWorkloadEntry, istioVersions, true, decodeWorkloadEntry},
}

// object is one object of a file.
type object struct {
	kind string
	// state has its namespace filled in.
	state metav1.Object
	line  int
}

// header is what tells what an object is.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// decoded is what a file holds.
type decoded struct {
	kinds   []kind // That are read.
	objects []object
	faults  []fault
	// ignored are kinds that were passed over, each once.
	ignored []string
}

// decodeValue adds what a document, or an item of a List, holds.
func (d *decoded) decodeValue(v value, inList bool) {
	if string(v.json) == "null" {
		return // An empty document.
	}
	var head header
	if !v.isObject() {
		d.fail(v.line(), "not an object", "a Kubernetes object with apiVersion and kind")
		return
	}
	if err := kubejson.UnmarshalCaseSensitivePreserveInts(v.json, &head); err != nil {
		d.faults = append(d.faults, explainDecode(v, err, &header{}))
		return
	}
	switch {
	case head.APIVersion == "" || head.Kind == "":
		d.fail(v.line(), "apiVersion or kind is missing", "a Kubernetes object with apiVersion and kind")
	case head.Kind == "List" && head.APIVersion == "v1" && inList:
		d.fail(v.line(), "a List in a List", "objects in a List")
	case head.Kind == "List" && head.APIVersion == "v1":
		items, _ := v.member("items")
		items.elements(func(_ int, item value) bool {
			d.decodeValue(item, true)
			return true
		})
	default:
		d.decodeKind(v, head)
	}
}

func (d *decoded) decodeKind(v value, head header) {
	group := groupOf(head.APIVersion)
	i := slices.IndexFunc(d.kinds, func(k kind) bool { return k.name == head.Kind && groupOf(k.versions[0]) == group })
	if i < 0 {
		d.ignore(head)
		return
	}
	kind := d.kinds[i]
	if !slices.Contains(kind.versions, head.APIVersion) {
		d.fail(v.lineOfPath("apiVersion"), fmt.Sprintf("apiVersion %q of %s is not known", head.APIVersion, kind.name), strings.Join(kind.versions, " or "))
		return
	}
	state, faults := kind.decode(v)
	if len(faults) > 0 {
		d.faults = append(d.faults, faults...)
		return
	}
	if state == nil {
		d.ignore(head)
		return
	}
	if state.GetName() == "" {
		d.fail(v.lineOfPath("metadata"), kind.name+" without metadata.name", "a name")
		return
	}
	switch {
	case !kind.namespaced:
		state.SetNamespace("")
	case state.GetNamespace() == "":
		state.SetNamespace(metav1.NamespaceDefault)
	}
	d.objects = append(d.objects, object{kind.name, state, v.line()})
}

func (d *decoded) ignore(head header) {
	if name := head.APIVersion + " " + head.Kind; !slices.Contains(d.ignored, name) {
		d.ignored = append(d.ignored, name)
	}
}

func (d *decoded) fail(line int, what, want string) {
	d.faults = append(d.faults, fault{line, what, want})
}

func groupOf(apiVersion string) string {
	group, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return "" // The core group.
	}
	return group
}

// decodeObject decodes a kind of Kubernetes' own, and takes no field that it does not have.
func decodeObject[T any, P interface {
	*T
	metav1.Object
}](v value) (metav1.Object, []fault) {
	object := P(new(T))
	return object, decodeStrictly(v, object)
}

func decodeStrictly[T any](v value, into *T) []fault {
	strict, err := kubejson.UnmarshalStrict(v.json, into)
	if err != nil {
		return []fault{explainDecode(v, err, new(T))}
	}
	var faults []fault
	for _, err := range strict {
		line := v.line()
		if field, ok := errors.AsType[kubejson.FieldError](err); ok {
			line = v.lineOfPath(field.FieldPath())
		}
		faults = append(faults, fault{line, err.Error(), "fields as the Kubernetes API spells them, each once"})
	}
	return faults
}

// explainDecode finds the line of a value of the wrong type. Kubernetes' decoder does not say
// where; the standard library's does, so it decodes again.
func explainDecode(v value, err error, scratch any) fault {
	line := v.line()
	var mistyped *json.UnmarshalTypeError
	if again := json.Unmarshal(v.json, scratch); errors.As(again, &mistyped) {
		line = v.lineAfter(int(mistyped.Offset) - 1)
		return fault{line, fmt.Sprintf("field %s: unexpected %s", mistyped.Field, mistyped.Value), "a value of type " + mistyped.Type.String()}
	}
	return fault{line, strings.TrimPrefix(err.Error(), "json: "), "an object as the Kubernetes API describes it"}
}

// istioObject is any object of Istio's. Its spec and status are protobuf messages.
type istioObject struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`
	Spec              json.RawMessage `json:"spec"`
	Status            json.RawMessage `json:"status"`
}

func decodeServiceEntry(v value) (metav1.Object, []fault) {
	entry := &networkingv1.ServiceEntry{}
	meta, faults := decodeIstio(v, &entry.Spec, &entry.Status)
	entry.ObjectMeta = meta
	return entry, faults
}

func decodeWorkloadEntry(v value) (metav1.Object, []fault) {
	entry := &networkingv1.WorkloadEntry{}
	meta, faults := decodeIstio(v, &entry.Spec, &entry.Status)
	entry.ObjectMeta = meta
	return entry, faults
}

func decodeIstio(v value, spec, status proto.Message) (metav1.ObjectMeta, []fault) {
	var object istioObject
	faults := decodeStrictly(v, &object)
	for _, part := range []struct {
		name string
		into proto.Message
	}{{"spec", spec}, {"status", status}} {
		raw, found := v.member(part.name)
		if !found || string(raw.json) == "null" {
			continue
		}
		if err := protojson.Unmarshal(raw.json, part.into); err != nil {
			faults = append(faults, explainProto(raw, part.name, err))
		}
	}
	return object.ObjectMeta, faults
}

// protoErrorPosition finds position and message in an error of protojson, which puts a no-break
// space wherever it likes.
var protoErrorPosition = regexp.MustCompile(`\(line (\d+):\d+\):[\s\x{a0}]*(.*)`)

func explainProto(raw value, name string, err error) fault {
	what, line := strings.TrimPrefix(err.Error(), "proto:"), raw.line()
	if position := protoErrorPosition.FindStringSubmatch(err.Error()); position != nil {
		what = position[2]
		if number, err := strconv.Atoi(position[1]); err == nil {
			line = raw.lineAfter(offsetOfLine(raw.json, number))
		}
	}
	return fault{line, name + ": " + strings.TrimSpace(what), "fields and values as the Istio API describes them"}
}

// offsetOfLine is where the numbered line starts, counted from 1.
func offsetOfLine(text []byte, number int) int {
	offset := 0
	for range number - 1 {
		next := bytes.IndexByte(text[offset:], '\n')
		if next < 0 {
			return offset
		}
		offset += next + 1
	}
	return offset
}
