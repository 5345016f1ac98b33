package registryv1

// ErrorDomain is the domain of google.rpc.ErrorInfo in the status of a stream.
const ErrorDomain = "meshvm"

// ReasonComeAgain is the reason in google.rpc.ErrorInfo when a syncer ends a stream, ABORTED, only so that the VM
// opens it anew: what the VM may see is another than when it began. It is no fault, and the VM comes again at
// once.
const ReasonComeAgain = "COME_AGAIN"
