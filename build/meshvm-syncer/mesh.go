package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
)

// defaultMeshConfigMap is where Istio's mesh configuration usually is.
const defaultMeshConfigMap = "istio-system/istio"

// meshFlags are the flags of Istio's mesh configuration.
type meshFlags struct{ configMap string }

const meshConfigFlag = "istio-mesh-config"

func (m *meshFlags) declare(flags *pflag.FlagSet) {
	flags.StringVar(&m.configMap, meshConfigFlag, "", "follow Istio's mesh configuration in this ConfigMap, `NAMESPACE/NAME`: defaults of exportTo, which then win over --default-export, trust domain, root namespace")
	flags.Lookup(meshConfigFlag).NoOptDefVal = defaultMeshConfigMap
}

// name checks the flag. The zero value: it is not given.
func (m *meshFlags) name(given func(string) bool) (types.NamespacedName, error) {
	if !given(meshConfigFlag) {
		return types.NamespacedName{}, nil
	}
	namespace, name, _ := strings.Cut(m.configMap, "/")
	if !isNamespacedName(m.configMap) {
		return types.NamespacedName{}, fmt.Errorf("--%s %q: want NAMESPACE/NAME of a ConfigMap such as %s", meshConfigFlag, m.configMap, defaultMeshConfigMap)
	}
	return types.NamespacedName{Namespace: namespace, Name: name}, nil
}

// isNamespacedName reports whether a text is NAMESPACE/NAME of an object.
func isNamespacedName(text string) bool {
	namespace, name, _ := strings.Cut(text, "/")
	return len(validation.IsDNS1123Label(namespace)) == 0 && len(validation.IsDNS1123Subdomain(name)) == 0
}
