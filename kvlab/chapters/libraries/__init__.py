"""What chapter 11 alone needs: the kept matrix of libraries, its picture, the whole request."""
