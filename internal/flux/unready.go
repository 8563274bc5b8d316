package flux

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

func unready(context.Context, client.Client, *object) string { return "" }
