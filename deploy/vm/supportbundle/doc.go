// Package supportbundle gathers what somebody who helps has to know about a VM into one archive, without its secrets.
//
// machine.go names what is gathered, redact.go takes secrets out of all of it, bundle.go writes the archive. What cannot be gathered
// is said in the list of contents, which comes first, and hinders nothing else.
package supportbundle
