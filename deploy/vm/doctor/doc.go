// Package doctor looks for what is wrong with name resolution on a virtual machine of the mesh, and says what to do about each thing.
//
// A check looks at one thing and changes nothing. Run does all of them at once, in bounded time.
package doctor
