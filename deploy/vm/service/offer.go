package service

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/meshvm/meshvm/deploy/vm/service/queue"
)

// queueSocket is where the service offers its sockets, in the folder that the service manager made for it.
const queueSocket = "queue.sock"

// offer lets root make room in the sockets, where the service manager keeps them. Nil: there is nobody to offer to.
func offer(m manager) *queue.Offerer {
	folder := os.Getenv("RUNTIME_DIRECTORY")
	if !m.present() || folder == "" {
		return nil
	}
	offerer, err := queue.Offer(filepath.Join(folder, queueSocket), func() ([]int, error) {
		instance := current()
		if instance == nil {
			return nil, errors.New("nothing is served")
		}
		sockets, err := served(instance)
		var fds []int
		for _, s := range sockets {
			fds = append(fds, s.fd)
		}
		return fds, err
	})
	if err != nil {
		logger.Warning(err) // it serves all the same
		return nil
	}
	return offerer
}
