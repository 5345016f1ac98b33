package supportbundle

import (
	"bytes"
	"regexp"
	"slices"
	"strings"
)

// redacted stands for a secret.
const redacted = "[redacted]"

// leastSecret is how long a part of a secret is, in bytes, that is looked for by itself. What is shorter is in ordinary text, too.
const leastSecret = 8

// Patterns of secrets, whatever they are in.
var (
	privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|\z)`)
	// JSON Web Tokens (RFC 7519), whole or in part: the header begins with {", which is eyJ in base64url.
	// A name that is looked up is in lower case.
	webToken = regexp.MustCompile(`(?i:eyj)[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*)*`)
	// Authorization headers (RFC 9110, section 11.6.2).
	authorization = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[^\s"',]+`)
	// Names and passwords in URLs (RFC 3986, section 3.2.1).
	userInfo = regexp.MustCompile(`://[^/\s@"]+@`)
	// Settings whose name says that they are secret: name=value, name: value, "name": "value", name value.
	setting = regexp.MustCompile(`(?im)((?:^|[\s,;{"'_.-]|\b)[a-z0-9_.-]*(?:token|secret|passw(?:or)?d|passphrase|api_?key|private_?key|credential)[a-z0-9_.-]*["']?(?:[ \t]*[=:][ \t]*|[ \t]+))("[^"\n]*"|'[^'\n]*'|[^\s,;}]+)`)
	// Anything long that no word is: base64, hexadecimal.
	opaque = regexp.MustCompile(`[A-Za-z0-9+_=-]{40,}`)
)

// Redactor takes secrets out of text.
type Redactor struct{ known []string }

// NewRedactor knows some secrets, such as the content of a token's file. It finds them, and their lines and the parts between
// dots, wherever they are.
func NewRedactor(secrets ...[]byte) *Redactor {
	var r Redactor
	add := func(secret string) {
		if secret = strings.TrimSpace(secret); len(secret) >= leastSecret && !slices.Contains(r.known, secret) {
			r.known = append(r.known, secret)
		}
	}
	for _, secret := range secrets {
		add(string(secret))
		for line := range strings.Lines(string(secret)) {
			if strings.HasPrefix(line, "-----") {
				continue
			}
			add(line)
			for part := range strings.SplitSeq(line, ".") {
				add(part)
			}
		}
	}
	// The longest first, so that no rest of one stays.
	slices.SortFunc(r.known, func(a, b string) int { return len(b) - len(a) })
	return &r
}

// Redact is the text without secrets.
func (r *Redactor) Redact(text []byte) []byte {
	for _, secret := range r.known {
		text = bytes.ReplaceAll(text, []byte(secret), []byte(redacted))
	}
	text = privateKey.ReplaceAll(text, []byte(redacted))
	text = authorization.ReplaceAll(text, []byte("$1 "+redacted))
	text = webToken.ReplaceAll(text, []byte(redacted))
	text = userInfo.ReplaceAll(text, []byte("://"+redacted+"@"))
	text = setting.ReplaceAllFunc(text, func(match []byte) []byte {
		parts := setting.FindSubmatch(match)
		if harmless(string(parts[2]), string(parts[1])) {
			return match
		}
		return append(slices.Clone(parts[1]), redacted...)
	})
	return opaque.ReplaceAllFunc(text, func(match []byte) []byte {
		if isWords(string(match)) {
			return match
		}
		return []byte(redacted)
	})
}

// harmless reports whether the value of a setting that a secret's name is in is none: the name of a file; or a word of a sentence,
// where neither = nor : stands between.
func harmless(value, name string) bool {
	value = strings.Trim(value, `"'`)
	if strings.HasPrefix(value, "/") || value == redacted || value == "" {
		return true
	}
	switch strings.ToLower(value) {
	case "true", "false", "null", "none", "[", "{":
		return true
	}
	return !strings.ContainsAny(name, "=:") && isWords(value)
}

// isWords reports whether a text is of letters and marks alone, as words, names of functions and rules are.
func isWords(text string) bool {
	return !strings.ContainsAny(text, "0123456789+=") && (strings.ToLower(text) == text || strings.ContainsAny(text, "_-") || len(text) < leastSecret)
}
