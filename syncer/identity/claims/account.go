package claims

import (
	"strings"

	"github.com/meshvm/meshvm/syncer/identity"
)

// Account splits the user name of a ServiceAccount, system:serviceaccount:NAMESPACE:NAME. Other users are none.
func Account(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, "system:serviceaccount:")
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	if !ok || !identity.IsNamespace(namespace) || !identity.IsServiceAccount(name) {
		return "", "", false
	}
	return namespace, name, true
}

// NotAnAccount refuses a token of somebody else.
func NotAnAccount() *identity.Refusal {
	return identity.Refuse(identity.ReasonMalformed, "the token is not that of a ServiceAccount, and users are not VMs: get one with `meshvmctl token` or `kubectl create token`")
}

// WrongAudience refuses a token for somebody else than the audience that is wanted.
func WrongAudience(want string) *identity.Refusal {
	return identity.Refuse(identity.ReasonAudience, "the token is not for audience %q: get one with `meshvmctl token` or `kubectl create token --audience %s`", want, want)
}
