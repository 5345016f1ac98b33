// Package nsswitch reads in which order the C library asks for hosts.
package nsswitch

import "strings"

// Hosts are the services of the line hosts: of an nsswitch.conf(5), in their order, without actions such as [NOTFOUND=return]. Without
// such a line they are glibc's own.
func Hosts(content []byte) []string {
	var services []string
	found := false
	for line := range strings.Lines(string(content)) {
		line, _, _ = strings.Cut(line, "#")
		database, rest, isDatabase := strings.Cut(line, ":")
		if !isDatabase || strings.TrimSpace(database) != "hosts" {
			continue
		}
		found, services = true, nil // the last line counts
		inAction := false
		for word := range strings.FieldsSeq(strings.NewReplacer("[", " [ ", "]", " ] ").Replace(rest)) {
			switch {
			case word == "[":
				inAction = true
			case word == "]":
				inAction = false
			case !inAction:
				services = append(services, word)
			}
		}
	}
	if !found {
		return []string{"dns", "files"}
	}
	return services
}

// ResolveBeforeDNS reports whether systemd-resolved is asked, by nss-resolve, before /etc/resolv.conf is looked at.
func ResolveBeforeDNS(services []string) bool {
	for _, service := range services {
		switch service {
		case "resolve":
			return true
		case "dns":
			return false
		}
	}
	return false
}
