//go:build !linux

package queue

import "errors"

// Widen fails: only Linux can reach another process's sockets.
func Widen(int, int, ...int) (int, error) {
	return 0, errors.New("only on Linux")
}
