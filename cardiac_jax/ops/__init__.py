"""Operations on arrays, each with its plain form."""
