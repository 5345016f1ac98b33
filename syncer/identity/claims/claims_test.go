package claims

import (
	"encoding/base64"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/meshvm/meshvm/syncer/identity"
)

func TestParse(t *testing.T) {
	const whole = `{"aud":["meshvm"],"exp":1800000000,"iat":1700000000,"iss":"https://kubernetes.default.svc","jti":"0c",
		"kubernetes.io":{"namespace":"prod","node":{"name":"worker","uid":"n"},"pod":{"name":"web-0","uid":"p"},"serviceaccount":{"name":"vm","uid":"u"},"warnafter":1700003607},
		"nbf":1700000000,"sub":"system:serviceaccount:prod:vm"}`
	got, err := Parse([]byte(whole))
	if err != nil {
		t.Fatal(err)
	}
	want := Claims{
		Issuer: "https://kubernetes.default.svc", Subject: "system:serviceaccount:prod:vm", ID: "0c", Audience: []string{"meshvm"},
		Expires: time.Unix(1800000000, 0), NotBefore: time.Unix(1700000000, 0),
		Namespace: "prod", ServiceAccount: "vm", UID: "u", Pod: Bound{"web-0", "p"}, Node: Bound{"worker", "n"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for name, test := range map[string]struct {
		payload string
		want    Claims
		bad     bool
	}{
		"nothing in it":          {`{}`, Claims{}, false},
		"one audience":           {`{"aud":"meshvm"}`, Claims{Audience: []string{"meshvm"}}, false},
		"a fraction":             {`{"exp":1800000000.9}`, Claims{Expires: time.Unix(1800000000, 0)}, false},
		"other capitals":         {`{"ISS":"x","Sub":"y"}`, Claims{}, false},
		"a claim twice":          {`{"iss":"x","iss":"y"}`, Claims{}, true},
		"a far future":           {`{"exp":1e300}`, Claims{}, true},
		"before 1970":            {`{"exp":-1}`, Claims{}, true},
		"a time in words":        {`{"exp":"tomorrow"}`, Claims{}, true},
		"an audience of no kind": {`{"aud":[1]}`, Claims{}, true},
		"an array":               {`[]`, Claims{}, true},
		"two objects":            {`{}{}`, Claims{}, true},
		"half an object":         {`{"iss":`, Claims{}, true},
		"a namespace of no kind": {`{"kubernetes.io":{"namespace":1}}`, Claims{}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Parse([]byte(test.payload))
			if (err != nil) != test.bad || !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, %v, want %+v, an error: %t", got, err, test.want, test.bad)
			}
		})
	}
}

func encode(content string) string { return base64.RawURLEncoding.EncodeToString([]byte(content)) }

func TestUnverified(t *testing.T) {
	payload := encode(`{"iss":"x"}`)
	for name, test := range map[string]struct {
		token string
		good  bool
	}{
		"three parts":         {"e30." + payload + ".e30", true},
		"two":                 {"e30." + payload, false},
		"four":                {"e30." + payload + ".e30.e30", false},
		"none":                {"", false},
		"an empty header":     {"." + payload + ".e30", false},
		"an empty payload":    {"e30..e30", false},
		"no signature":        {"e30." + payload + ".", false},
		"padding":             {"e30=." + payload + ".e30", false},
		"the other base64":    {"e30." + payload + ".++++", false},
		"a line break":        {"e30." + payload + ".e\n30", false},
		"bits that are lost":  {"e30." + payload + ".e31", false},
		"a blank":             {"e30 ." + payload + ".e30", false},
		"a payload of no use": {"e30.e30x.e30", false},
		"as long as may be":   {"e30." + payload + "." + strings.Repeat("A", (MaxToken-len(payload)-5)/4*4), true},
		"too long":            {"e30." + payload + "." + strings.Repeat("A", MaxToken), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Unverified(test.token)
			if test.good {
				if err != nil || got.Issuer != "x" {
					t.Errorf("got %+v, %v, want issuer x", got, err)
				}
				return
			}
			if refusal, isRefusal := errors.AsType[*identity.Refusal](err); !isRefusal || refusal.Reason != identity.ReasonMalformed {
				t.Errorf("got %v, want a refusal for reason malformed", err)
			}
		})
	}
}

func TestAccount(t *testing.T) {
	for user, want := range map[string][2]string{
		"system:serviceaccount:prod:vm":                            {"prod", "vm"},
		"system:serviceaccount:prod:vm.example-1":                  {"prod", "vm.example-1"},
		"system:serviceaccount:prod:":                              {},
		"system:serviceaccount::vm":                                {},
		"system:serviceaccount:prod":                               {},
		"system:serviceaccount:prod:vm:x":                          {},
		"system:serviceaccount:Prod:vm":                            {},
		"system:serviceaccount:prod:v m":                           {},
		"system:serviceaccount:prod:vm\n":                          {},
		"System:serviceaccount:prod:vm":                            {},
		"oidc:system:serviceaccount:prod:vm":                       {},
		"system:serviceaccounts:prod:vm":                           {},
		"alice":                                                    {},
		"":                                                         {},
		"system:serviceaccount:prod:" + strings.Repeat("a", 254):   {},
		"system:serviceaccount:" + strings.Repeat("a", 64) + ":vm": {},
	} {
		t.Run(user, func(t *testing.T) {
			namespace, name, ok := Account(user)
			if ok != (want[0] != "") || namespace != want[0] || name != want[1] {
				t.Errorf("got %q, %q, %t, want %q", namespace, name, ok, want)
			}
		})
	}
}

// FuzzUnverified: whatever a stranger sends is read in bounded space or refused, and no refusal holds it.
func FuzzUnverified(f *testing.F) {
	f.Add("e30." + encode(`{"iss":"https://kubernetes.default.svc","sub":"system:serviceaccount:prod:vm","aud":["meshvm"],"exp":1800000000}`) + ".e30")
	f.Add("e30." + encode(`{"aud":"meshvm","exp":1e300,"kubernetes.io":{"namespace":"prod","pod":null}}`) + ".e30")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		c, err := Unverified(token)
		if err != nil {
			refusal, isRefusal := errors.AsType[*identity.Refusal](err)
			if !isRefusal || refusal.Reason != identity.ReasonMalformed {
				t.Fatalf("got %v, want a refusal for reason malformed", err)
			}
			for part := range strings.SplitSeq(token, ".") {
				if len(part) > 16 && strings.Contains(refusal.Message, part) {
					t.Errorf("%q holds a part of the token", refusal.Message)
				}
			}
			return
		}
		for _, date := range []time.Time{c.Expires, c.NotBefore} {
			if !date.IsZero() && (date.Unix() <= 0 || date.Year() > 9999) {
				t.Errorf("got a time in year %d, want one that can be written", date.Year())
			}
		}
		if namespace, name, ok := Account(c.Subject); ok && c.Subject != "system:serviceaccount:"+namespace+":"+name {
			t.Errorf("Account(%q): got %q and %q", c.Subject, namespace, name)
		}
	})
}
