#!/bin/sh
vim -Nu NONE -n notes
echo the editor ended
