package pull

import (
	"time"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/types"
)

// Kind is what an Event says.
type Kind int

// The kinds of events.
const (
	Begin   Kind = iota // of an image: Name
	Start               // of a layer or configuration: Blob, Total
	Advance             // Done of Total bytes
	Finish              // of a blob
	Skip                // a blob that is there already
	End                 // of an image: Name and ID
)

// Event is one step of moving images.
type Event struct {
	Kind  Kind
	Name  string // of the image
	ID    string // of the image
	Blob  string // digest
	Total int64  // bytes, -1 when unknown
	Done  int64
}

// events calls tell for each event that the library sends; done is called when no more can come.
func events(options *copy.Options, tell func(Event)) (done func()) {
	if tell == nil {
		return func() {}
	}
	channel, ended := make(chan types.ProgressProperties, 16), make(chan struct{})
	options.Progress, options.ProgressInterval = channel, 100*time.Millisecond
	kinds := map[types.ProgressEvent]Kind{
		types.ProgressEventNewArtifact: Start, types.ProgressEventRead: Advance,
		types.ProgressEventDone: Finish, types.ProgressEventSkipped: Skip,
	}
	go func() {
		defer close(ended)
		for p := range channel {
			if kind, known := kinds[p.Event]; known {
				tell(Event{Kind: kind, Blob: p.Artifact.Digest.String(), Total: p.Artifact.Size, Done: int64(p.Offset)})
			}
		}
	}()
	return func() { close(channel); <-ended }
}
