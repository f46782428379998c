(func $main unreachable)
