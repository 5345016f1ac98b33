package meshvm

import "github.com/meshvm/meshvm/plugin/status"

// Status is how the mirrors of this process stand. It is safe for concurrent use and costs no query anything.
func Status() status.Report { return process.report() }
