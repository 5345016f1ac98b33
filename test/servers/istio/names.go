package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/yaml"

	"istio.io/istio/pilot/pkg/config/kube/crd"
	"istio.io/istio/pilot/pkg/model"
	fakexds "istio.io/istio/pilot/test/xds"
	"istio.io/istio/pkg/config"
	"istio.io/istio/pkg/config/schema/collections"
	"istio.io/istio/pkg/config/schema/resource"
	"istio.io/istio/pkg/dns/server"
	"istio.io/istio/pkg/test"
)

// names builds the table that istiod sends to the agent of a proxy, from the state of a whole cluster.
func names(objects string, namespaces []string, out io.Writer) error {
	istio, kubernetes, err := split(objects)
	if err != nil {
		return err
	}
	tables := map[string]map[string][]string{}
	err = test.Wrap(func(t test.Failer) {
		s := fakexds.NewFakeDiscoveryServer(t, fakexds.FakeOptions{
			Configs:                istio,
			KubernetesObjectString: strings.Join(kubernetes, "\n---\n"),
		})
		for _, namespace := range namespaces {
			proxy := s.SetupProxy(&model.Proxy{
				Type:            model.SidecarProxy,
				IPAddresses:     []string{"192.0.2.254", "2001:db8::fe"},
				ID:              "vm." + namespace,
				ConfigNamespace: namespace,
				Metadata: &model.NodeMetadata{
					Namespace: namespace, DNSCapture: true, DNSAutoAllocate: true, ClusterID: "Kubernetes",
				},
			})
			table := server.BuildNameTable(server.Config{Node: proxy, Push: s.PushContext(), MulticlusterHeadlessEnabled: true})
			addresses := map[string][]string{}
			for name, info := range table.GetTable() {
				addresses[name] = slices.Sorted(slices.Values(info.GetIps()))
			}
			tables[namespace] = addresses
		}
	})
	if err != nil {
		return fmt.Errorf("build the name tables: %w", err)
	}
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(tables)
}

// split tells Istio's objects from those of Kubernetes. As istiod does, it takes what the API server lets in:
// nothing is validated.
func split(objects string) (istio []config.Config, kubernetes []string, err error) {
	for _, document := range strings.Split(objects, "\n---\n") {
		var object crd.IstioKind
		if err := yaml.Unmarshal([]byte(document), &object); err != nil {
			return nil, nil, fmt.Errorf("read an object: %w", err)
		}
		kind := schema.FromAPIVersionAndKind(object.APIVersion, object.Kind)
		switch {
		case kind.Kind == "":
		case strings.HasSuffix(kind.Group, "istio.io"):
			described, known := collections.Pilot.FindByGroupVersionAliasesKind(resource.FromKubernetesGVK(&kind))
			if !known {
				return nil, nil, fmt.Errorf("%s is none of Istio's kinds", kind)
			}
			read, err := crd.ConvertObject(described, &object, "cluster.local")
			if err != nil {
				return nil, nil, fmt.Errorf("read %s %s/%s: %w", kind.Kind, object.Namespace, object.Name, err)
			}
			istio = append(istio, *read)
		default:
			kubernetes = append(kubernetes, document)
		}
	}
	return istio, kubernetes, nil
}
