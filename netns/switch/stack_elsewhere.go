//go:build switch

package netswitch

// stack is the engine's (stack.go).
func (s *space) stack() (way, error) { return nil, errNoStack }
