//go:build !linux

package queue

import "errors"

func widen(int, int) (bool, error) { return false, errors.New("only on Linux") }
