// Package statefile keeps the ledger of virtual IPs in a file, where there is no API server to keep it.
//
// The file is text, one record a line, below a line that says what it is and the checksum of the rest. It is
// replaced as a whole: a reader, and a machine that loses power, see the old ledger or the new one. One that
// cannot be read, or that is not whole, is never taken for an empty one: what was given would be given again.
package statefile
