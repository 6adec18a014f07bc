package plug

import (
	"errors"
	"testing"

	"github.com/skiff-containers/skiff/run/stage"
)

// A switch that goes as it is asked has gone, whether it is noticed at the question or at the answer: another one is started then.
func TestGone(t *testing.T) {
	conn, theirs, err := stage.Pair()
	if err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	c := newCable(conn, Options{})
	if _, err := c.Attach(Request{}, null(t)); !errors.Is(err, ErrGone) {
		t.Errorf("got %v, want %v", err, ErrGone)
	}
}
